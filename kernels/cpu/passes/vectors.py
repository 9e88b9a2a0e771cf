"""The processor's vectors, for loops that the compiler does not find them in.

Numba knows no vectors of registers, and what its compiler makes of a loop fetches every sum and puts it back. What is
built from `Vectors` is in the compiler's own language.
"""

from __future__ import annotations

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError


def _registers() -> tuple[int, int]:
    """Bytes of a vector register and how many there are."""
    try:
        has = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this processor
        has = {}
    if has.get("avx512f"):
        return 64, 32
    return (32 if has.get("avx2") else 16), (32 if has.get("neon") else 16)


BYTES, REGISTERS = _registers()

_FLOATS = {types.float32: (ir.FloatType(), 4), types.float64: (ir.DoubleType(), 8)}
INT = ir.IntType(64)


def one_dtype(*arrays):
    """Refuses to compile for arrays of unlike dtypes: a vector is read from any of them as the first one's."""
    if len({array.dtype for array in arrays}) > 1:
        raise TypingError(f"arrays of one dtype, found {', '.join(str(array.dtype) for array in arrays)}")


class Vectors:
    """What an intrinsic function is written with: vectors of the type of its array at `position`."""

    def __init__(self, context, builder, signature, args, position):
        self.context, self.builder, self.signature, self.args = context, builder, signature, args
        self.number, self.size = _FLOATS[signature.args[position].dtype]
        self.width = BYTES // self.size
        self.vector = ir.VectorType(self.number, self.width)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        # fused where the processor can
        name = f"llvm.fmuladd.v{self.width}f{8 * self.size}"
        self.multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)

    def pointer(self, position, start):
        """To an element of the array at `position`."""
        array = self.context.make_array(self.signature.args[position])
        return self.builder.gep(array(self.context, self.builder, self.args[position]).data, [start])

    def on(self, pointer, stride, times):
        return self.builder.gep(pointer, [self.builder.mul(stride, times)])

    def row(self, pointer, vectors):
        """To so many vectors, one behind the other."""
        return [self.builder.gep(pointer, [INT(k * self.width)]) for k in range(vectors)]

    def load(self, pointer):
        return self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.size)

    def store(self, value, pointer):
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.size)

    def spread(self, pointer):
        """A vector of one number."""
        none, lanes = ir.Constant(self.vector, ir.Undefined), ir.VectorType(ir.IntType(32), self.width)
        one = self.builder.insert_element(none, self.builder.load(pointer), ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, none, ir.Constant(lanes, None))

    def swap(self, above, below, half):
        """Both with the second half of each 2 half numbers of `above` in the place of the first half of those of
        `below`, and the other way round: one step of transposing blocks of half x half."""
        lanes, width = ir.VectorType(ir.IntType(32), self.width), self.width
        first = [width + (i ^ half) if i & half else i for i in range(width)]
        second = [width + i if i & half else i | half for i in range(width)]
        return tuple(self.builder.shuffle_vector(above, below, ir.Constant(lanes, each)) for each in (first, second))

    def sums(self, values):
        """Sums that the compiler keeps in registers."""
        return [cgutils.alloca_once_value(self.builder, value) for value in values]

    def add(self, total, factor, value):
        self.builder.store(self.builder.call(self.multiply_add, [factor, value, self.builder.load(total)]), total)

    def add_products(self, sums, a, a_row, b):
        """sums[p][k] += a[p a_row] * (the k-th vector from b on): one step of a product on a tile of sums."""
        read = [self.load(pointer) for pointer in self.row(b, len(sums[0]))]
        for p, row in enumerate(sums):
            factor = self.spread(self.on(a, a_row, INT(p)))
            for total, value in zip(row, read, strict=True):
                self.add(total, factor, value)
