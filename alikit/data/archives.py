"""Reading published archives in place: nothing is ever unpacked, so nothing can land outside a folder.

All the same an archive with a member that would leave the folder on unpacking, or that is a link, is refused as a
whole: nobody publishes such a data set, somebody has tampered with it.
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from alikit.data.files import unreadable
from alikit.errors import DataError

# What the readers raise on archives that are cut, flipped or something else
_DAMAGE = (OSError, EOFError, ValueError, NotImplementedError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


def check_member(archive: Path, name: str) -> None:
    """DataError naming the member where `name` is absolute or climbs out by `..`, in POSIX or Windows spelling."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts[:1] and path.parts[0].endswith(":")):
        raise DataError(f"{archive}: refused, its member {name!r} points outside the archive's folder")


def read_tar(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The members with the base names of `sizes`, each of exactly that many bytes; the archive is read to its end,
    so that its checksum is compared too. DataError where it is unsafe, damaged or lacks one of them."""
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                check_member(archive, member.name)
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"{archive}: refused, its member {member.name!r} is a link or a device")
                name = PurePosixPath(member.name).name
                if name in sizes:
                    found[name] = _read_member(archive, tar, member, sizes[name])
            while stream.read(1 << 20):
                pass
    except _DAMAGE as error:
        raise unreadable(archive, "a tar.gz archive", error) from None
    missing = sorted(set(sizes) - set(found))
    if missing:
        raise DataError(f"{archive}: lacks {', '.join(missing)}")
    return found


def _read_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, size: int) -> bytes:
    stream = tar.extractfile(member) if member.size == size else None
    if stream is None:
        raise DataError(f"{archive}: its member {member.name!r} has {member.size:,} bytes instead of {size:,}")
    return stream.read()


def open_zip(archive: Path) -> zipfile.ZipFile:
    """The archive, open for reading its members from several threads. DataError where it is unsafe or damaged."""
    try:
        opened = zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise unreadable(archive, "a zip archive", error) from None
    for name in opened.namelist():
        check_member(archive, name)
    return opened
