"""What all commands do with streams that are not there, not read or too narrow."""

import io
import os
import sys

import pytest

from alikit import console


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_process_without_a_stream_writes_nowhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)

    def main() -> int:
        with getattr(sys, name) as stream:
            print("words", file=stream)
            return 3 if stream.isatty() else 0

    assert console.run(main) == 0


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_names_beyond_an_encoding_are_shown_escaped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(written, "utf-8", "strict"))
    tell = console.tell if name == "stdout" else console.warn
    assert console.run(lambda: tell("p\udcff") or 0) == 0
    assert rb"p\udcff" in written.getvalue()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_work_goes_on_where_nobody_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, name, stream)
        tell = console.tell if name == "stdout" else console.warn

        def main() -> int:
            tell("one")
            tell("two")
            return 7

        assert console.run(main) == 7
