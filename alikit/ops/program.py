"""A computation as a program of its kernel calls.

A training step does the same every time: from one pass through networks, graph and walks it is known which kernels it
calls, and on what. `trace` notes the calls as they are made and writes them down as the source of a function, all else
left out: what a graph of launches is to a device, this is to NumPy's kernels. Every array is freed behind its last use.

    r2 = join((x, r1), axis=-1, dropout=None)
    del r1
    r3_0, r3_1 = conv2d(r2, encoder_layers_0_conv_weight, None, stride=1, activation=activation, ...)

What is neither an input nor a result of an earlier call is taken for a constant. So between the kernels arrays may be
viewed, but not computed or changed, and no number may be read from them. Of two passes over different inputs that do
compute arrays the programs are not `same`; a change in place or a number that both happen to agree on does not show.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import combinations
from keyword import iskeyword
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from alikit.backend import settle
from alikit.ops._dispatch import noted


class Program:
    """What `trace` has found.

    source     of a function of the inputs, in their order
    constants  what the text calls by other names than those of inputs and results
    """

    def __init__(self, source: str, constants: dict[str, Any]):
        self.source, self.constants = source, constants
        scope = {**constants, "ndarray": np.ndarray}
        exec(compile(source, "<program>", "exec"), scope)
        self._function: Callable[..., Any] = scope.pop("program")  # which knows its scope: no cycle

    def run(self, *inputs: np.ndarray) -> Any:
        """What the computation returns for other inputs, with nothing left to other threads."""
        try:
            return self._function(*inputs)
        finally:
            settle()

    def same(self, other: Program) -> bool:
        """Whether both do the same to the same arrays."""
        mine, theirs = list(self.constants.values()), list(other.constants.values())
        return self.source == other.source and _same(mine, theirs)


def trace(
    fn: Callable[[], Any], inputs: Mapping[str, np.ndarray], names: Mapping[str, np.ndarray]
) -> tuple[Any, Program | None]:
    """What fn() returns, arrays in tuples and lists, and the program that does the same to other inputs.

    inputs  arrays that fn reads, by the names that they are to have as arguments; each in memory of its own
    names   of arrays that stay, parameters for example: the program reads what is then in them

    The program is None while another pass is being traced. ValueError where inputs share memory.
    """
    for one, other in combinations(inputs, 2):
        if np.may_share_memory(inputs[one], inputs[other]):
            raise ValueError(f"trace: {one} and {other} share memory: wanted inputs that can differ")
    notes = _Notes(inputs, names)
    with noted(notes.wrapped) as alone:
        result = fn()
        return result, notes.program(result) if alone else None


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, np.ndarray):
        return False
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


#: names of results
_RESULT = re.compile(r"r\d+(_\d+)?")
#: names that the text uses itself
_TAKEN = {"ndarray", "program", "slice"}


class _Call(NamedTuple):
    """results: the variables that receive them, one or as many as are unpacked;  reads: of earlier ones and inputs."""

    text: str
    reads: set[str]
    results: tuple[str, ...]


class _Place(NamedTuple):
    """Bytes [start, stop) of memory, and the expression for the array there;  whole: without gaps, in C order."""

    text: str
    start: int
    stop: int
    whole: bool
    dtype: np.dtype


class _Notes:
    """The calls so far, and what is known of the arrays that live.

    variables  names of inputs and results;  records: expressions of tuples that calls returned -> type and length
    objects    id -> (reference, expression) of what they are
    owners     id of the array that owns the memory -> (reference, where in it inputs and results lie)
    """

    def __init__(self, inputs: Mapping[str, np.ndarray], names: Mapping[str, np.ndarray]):
        self.inputs, self.variables = tuple(inputs), set(inputs)
        self.calls: list[_Call] = []
        self.constants: dict[str, Any] = {}
        self.names = {id(array): name for name, array in names.items()}
        self.records: dict[str, tuple[type, int]] = {}
        self.objects: dict[int, tuple[Any, str]] = {}
        self.owners: dict[int, tuple[Any, list[_Place]]] = {}
        for name, array in inputs.items():
            self._learn(array, name)

    def wrapped(self, name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """A kernel that notes its calls."""

        def call(*args: Any, **options: Any) -> Any:
            given = [self._text(a) for a in args] + [f"{key}={self._text(a)}" for key, a in options.items()]
            text = f"{self._constant(kernel, name)}({', '.join(given)})"
            found = kernel(*args, **options)
            self._note(text, found)
            return found

        return call

    def program(self, result: Any) -> Program:
        """Of all calls, for the result of the whole."""
        last = self._text(result)
        live, body = self._read_in(last), [f"return {last}"]
        for call in reversed(self.calls):
            dead = call.reads.union(call.results) - live - set(self.inputs)
            if dead:
                body.append(f"del {', '.join(sorted(dead))}")
            body.append(f"{', '.join(call.results)} = {call.text}")
            live |= call.reads
        lines = [f"def program({', '.join(self.inputs)}):", *(f"    {line}" for line in reversed(body))]
        return Program("\n".join(lines) + "\n", self.constants)

    def _read_in(self, text: str) -> set[str]:
        return self.variables.intersection(re.findall(r"\w+", text))

    def _note(self, text: str, found: Any) -> None:
        name, reads = f"r{len(self.calls)}", self._read_in(text)
        several = isinstance(found, tuple) and len(found) > 1
        results = tuple(f"{name}_{i}" for i in range(len(found))) if several else (name,)
        self.calls.append(_Call(text, reads, results))
        self.variables.update(results)
        for variable, value in zip(results, found if several else (found,), strict=True):
            self._learn(value, variable)

    def _learn(self, value: Any, text: str) -> None:
        if isinstance(value, tuple | list):
            self.records[text] = type(value), len(value)
            for i, part in enumerate(value):
                self._learn(part, f"{text}[{i}]")
        elif not _is_plain(value) and self._known(value) is None:  # it may be an argument, handed through
            with suppress(TypeError):  # of what there is no reference to, nothing is known later
                self.objects[id(value)] = weakref.ref(value), text
            if isinstance(value, np.ndarray):
                self._places(value, anew=True).append(_place(value, text))

    def _known(self, value: Any) -> str | None:
        """The expression for an input or result."""
        reference, text = self.objects.get(id(value), (None, None))
        return text if reference is not None and reference() is value else None  # or its place is another's now

    def _places(self, array: np.ndarray, *, anew: bool = False) -> list[_Place]:
        """Inputs and results in the memory that the array lies in."""
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        reference, places = self.owners.get(id(owner), (None, []))
        if reference is not None and reference() is owner:
            return places
        places = []
        if anew:
            self.owners[id(owner)] = weakref.ref(owner), places
        return places

    def _text(self, value: Any) -> str:
        """The expression for an argument."""
        if _is_plain(value):
            return repr(value)
        if isinstance(value, tuple | list):
            return self._record(value)
        known = self._known(value)
        if known is not None:
            return known
        if isinstance(value, np.ndarray):
            name = self.names.get(id(value))
            return (self._view(value) if name is None else None) or self._constant(value, name or "array")
        return self._constant(value, _name(value))

    def _record(self, value: Any) -> str:
        texts = [self._text(part) for part in value]
        whole = texts[0].removesuffix("[0]") if texts else ""  # of which these may be all parts
        parts_of_whole = [f"{whole}[{i}]" for i in range(len(texts))]
        if self.records.get(whole) == (type(value), len(value)) and texts == parts_of_whole:
            return whole
        parts = ", ".join(texts)
        if type(value) is list:
            return f"[{parts}]"
        if type(value) is tuple:
            return f"({parts}{',' * (len(value) == 1)})"
        if not self._read_in(parts):
            return self._constant(value, _name(value))
        return f"{self._text(type(value))}({parts})"

    def _view(self, array: np.ndarray) -> str | None:
        """An array as part of an input or a result; None where it lies in none."""
        here = _place(array, "")
        for there in self._places(array):
            if there.whole and there.start <= here.start and here.stop <= there.stop:
                if here.whole and here[1:] == there[1:]:  # all of it, as other rows of numbers
                    return f"{there.text}.reshape({array.shape})"
                offset = array.__array_interface__["data"][0] - there.start
                return f"ndarray({array.shape}, {self._text(array.dtype)}, {there.text}, {offset}, {array.strides})"
        return None

    def _constant(self, value: Any, name: str) -> str:
        """What stands for a value that neither inputs nor calls have brought."""
        name = re.sub(r"\W", "_", name)
        if not name.isidentifier() or iskeyword(name) or name in _TAKEN or _RESULT.fullmatch(name):
            name = f"_{name}"
        free, number = name, 0
        while free in self.inputs or not _same(self.constants.get(free, value), value):  # another's
            number += 1
            free = f"{name}{number}"
        self.constants[free] = value
        return free


def _is_plain(value: Any) -> bool:
    """Whether `repr` gives the source of it."""
    if type(value) is slice:
        return all(map(_is_plain, (value.start, value.stop, value.step)))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def _name(value: Any) -> str:
    """Of a constant."""
    if isinstance(value, np.dtype):
        return value.name
    return value.__name__ if isinstance(value, type) else type(value).__name__.lower()


def _place(array: np.ndarray, text: str) -> _Place:
    start, stop = byte_bounds(array)
    return _Place(text, start, stop, array.flags.c_contiguous, array.dtype)
