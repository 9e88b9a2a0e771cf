"""Downloads of published files: pooch's streaming into a temporary file, the SHA-256 checked before it counts.

What goes wrong most often is no network, and, for CelebA, Google Drive's quota: it then answers with a web page.
Both end in a DataError of one line that says which URL, where the file belongs, and how to go on without data.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from alikit.data.files import DEMO_HINT, Published, looks_like_html
from alikit.data.reporting import Report
from alikit.errors import AlikitError, DataError

_PIECE = 1 << 20  # bytes read at a time; pooch's 1 kB makes Python the bottleneck


def fetch(file: Published, folder: Path, download: bool, report: Report) -> Path:
    """Download `file` into `folder`. DataError without network or permission to download; AlikitError: no place."""
    target = folder / file.name
    if not download:
        raise _missing(file, target, "and downloads are switched off")
    import pooch
    import requests

    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    report.say(f"downloading {file.url} ({file.size / 1e6:,.0f} MB) to {target}")
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # the line above says it already
    try:
        pooch.retrieve(file.url, f"sha256:{file.sha256}", file.name, folder, downloader=_downloader(report))
        target.chmod(0o644)  # pooch's temporary files are for the owner alone; a data folder is often shared
    except requests.RequestException as error:
        raise _missing(file, target, f"and cannot be downloaded ({_reason(error)})") from None
    except ValueError:  # pooch: the checksum differs
        raise _missing(file, target, "and what was downloaded is not the published file (SHA-256 differs)") from None
    except OSError as error:
        raise AlikitError(
            f"{target}: cannot be written ({error.strerror or error}); choose another folder by --data"
        ) from None
    finally:
        logger.setLevel(level)
        for place in made:  # pooch makes them before it asks the server
            with contextlib.suppress(OSError):  # they hold the file
                place.rmdir()
    return target


def _downloader(report: Report) -> Any:
    """pooch's streaming, which besides refuses web pages and closes its connection also after an error."""
    import pooch

    answers: list[Any] = []
    hooks = {"response": lambda answer, **_: answers.append(answer)}
    stream = pooch.HTTPDownloader(progressbar=report.shows_bars, chunk_size=_PIECE, hooks=hooks)

    def download(url: str, output_file: str, caller: Any) -> None:
        try:
            stream(url, output_file, caller)
        finally:
            for answer in answers:
                answer.close()
        if looks_like_html(output_file):
            raise DataError(
                f"{url} answered with a web page instead of the file (Google Drive does so when its download quota "
                f"is used up): try again tomorrow, or fetch the file by hand; {DEMO_HINT}"
            )

    return download


def _missing(file: Published, target: Path, how: str) -> DataError:
    return DataError(f"{target} is missing {how}: put {file.url} there, or try the demo: {DEMO_HINT}")


def _reason(error: Exception) -> str:
    """A network error in three words; the libraries' own texts nest four exceptions."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return "no answer in time" if isinstance(error, requests.Timeout) else "no connection, or it broke off"
