"""Whole files or none: whoever reads a file of a run finds the old bytes or the new ones, never a part.

The bytes go to `<name>.part` in the same folder (a rename across file systems is a copy), are fsynced, and take the
place of the old file by one rename. Then the folder is fsynced, or a power cut could undo the rename. The temporary
name is fixed: what a killed process left behind is overwritten by the next attempt instead of piling up.
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from alikit.errors import AlikitError

PART = ".part"

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Replaces the file at `path` by the concatenated `chunks`, durably and at once.

    On any failure the temporary file is removed and an older file at `path` stays as it was. AlikitError when the
    operating system refuses (a full disk, a read-only folder).
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise write_error(path, error) from None
        raise


def write_error(path: Path, error: OSError) -> AlikitError:
    """The one line for the user about a refused write: what, where, and what to do."""
    message = f"cannot write {path}: {error.strerror or error}"
    if error.errno in _NO_SPACE:
        message += "; free some space there (older files are untouched)"
    elif error.errno in _NO_PERMISSION:
        message += "; choose a folder that you may write to"
    return AlikitError(message)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder, and journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
