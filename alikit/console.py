"""What all commands share: one line for an error, the exit codes, and options that check themselves."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, TextIO, TypeVar

from alikit.errors import AlikitError, UsageError

Item = TypeVar("Item")
_SILENCE = 10.0  # seconds without a line, where there is no terminal


def run(main: Callable[[], int]) -> int:
    """Calls a command's main function; returns its exit code, after one line on stderr where it failed."""
    _prepare_streams()
    try:
        return main()
    except AlikitError as error:
        complain(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError as error:  # the reader of our output has left: nothing to say, nobody to say it to
        fall_silent(error)
        return 0
    except OSError as error:  # what nobody has put into words: a folder that may not be entered, a name too long
        place = f"{error.filename}: " if error.filename else ""
        complain(f"error: {place}{error.strerror or error}")
        return AlikitError.exit_code
    except MemoryError:
        complain("error: out of memory; a smaller --batch-size or --width needs less")
        return AlikitError.exit_code


def _prepare_streams() -> None:
    """Python has None for a stream that was closed before the start (`>&-`): what is written there goes nowhere. Names
    of files that a stream's encoding does not hold are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(text: str) -> None:
    """A line on stdout at once. Where whoever read along has left, or the line finds no room, the work goes on without
    telling."""
    try:
        print(text, flush=True)
    except OSError as error:
        fall_silent(error)


def fall_silent(error: OSError, stream: TextIO | None = None) -> None:
    """What is written to a stream (stdout) from now on, or waits there to be written, goes nowhere; stderr says why,
    unless the reader has left."""
    if not isinstance(error, BrokenPipeError):
        warn(f"stdout: {error.strerror or error}; nothing more is told there")
    _lead_nowhere(stream or sys.stdout)


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def warn(text: str) -> None:
    """A warning to the user, on stderr."""
    complain(f"warning: {text}")


def complain(text: str) -> None:
    """A line about something that went wrong, or that takes its time, on stderr."""
    try:
        print(f"alikit: {text}", file=sys.stderr, flush=True)
    except OSError:  # there is no other place to say it
        _lead_nowhere(sys.stderr)


def counted(count: int, thing: str) -> str:
    """As in "1 step", "2,000 steps"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def follow(items: Iterable[Item], total: int, what: str, quiet: bool = False) -> Iterator[Item]:
    """Passes `items` through and shows on stderr how many of `total` are done: a bar on a terminal, else a plain line
    every ten seconds. Nothing with `quiet`, or where there is nothing to do."""
    if quiet or not total:
        yield from items
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, file=sys.stderr)
        return
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told > _SILENCE:
            told = time.monotonic()
            complain(f"{what}: {done:,} of {total:,}")
        yield item


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others, and which minds no stream that nobody reads."""

    def print_help(self, file: Any = None) -> None:
        """On stdout at once: what waits in its buffer until the end would fail in Python's words."""
        if file is not None:
            super().print_help(file)
            return
        _prepare_streams()
        tell(self.format_help().removesuffix("\n"))

    def error(self, message: str) -> NoReturn:
        _prepare_streams()
        complain(f"error: {message} ({self.prog} --help lists the options)")
        self.exit(UsageError.exit_code)


def parser(prog: str, description: str, examples: str) -> Parser:
    """A parser in the common look: examples under the options, no abbreviations."""
    return Parser(
        prog=f"python -m alikit.{prog}",
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def whole(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """An option's type: an integer in [low, high]."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"a whole number is wanted, not {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"from {low} up is wanted, not {value}" if value < low else f"{value} is too large"
            )
        return value

    return parse


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """An option's type: a finite number in [low, high]; `above` and `below` exclude the ends."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"a number is wanted, not {text!r}") from None
        too_low = value < low or (above and value == low)
        if not math.isfinite(value) or too_low or value > high or (below and value == high):
            bounds = f"{'above' if above else 'from'} {low:g}" + (
                "" if math.isinf(high) else f" {'below' if below else 'to'} {high:g}"
            )
            raise argparse.ArgumentTypeError(f"a number {bounds} is wanted, not {text}")
        return value

    return parse


def given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, object]:
    """The options among `names` that the user gave (all have the default None)."""
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
