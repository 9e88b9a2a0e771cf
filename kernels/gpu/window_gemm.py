"""The tile of the product that is a convolution or its input gradient (`conv_shapes.Windows`)."""

from __future__ import annotations

from ..launch import jit, tl


@jit
def tf32(x):
    """x rounded to what a tensor core keeps of a float32: it would cut the rest off."""
    return tl.inline_asm_elementwise("cvt.rna.tf32.f32 $0, $1;", "=r,r", [x], tl.float32, True, 1)


@jit
def tf32_in_bits(x):
    """The same in integers (ties away from zero), for the interpreter."""
    return ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)


@jit
def multiply_add(a, b, acc, DOT: tl.constexpr):
    """acc + a @ b with operands as DOT says."""
    if DOT == "bf16":
        acc = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc)
    elif DOT == "tf32":
        acc = tl.dot(tf32(a.to(tl.float32)), tf32(b.to(tl.float32)), acc, input_precision="tf32")
    elif DOT == "tf32-in-bits":
        acc = tl.dot(tf32_in_bits(a.to(tl.float32)), tf32_in_bits(b.to(tl.float32)), acc, input_precision="ieee")
    else:
        acc = tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return acc


@jit
def window_entry(k, G: tl.constexpr):
    """Row and column in the window, and channel, of place k among the flattened entries."""
    tap = k // G.pitch
    return tap // G.w.window, tap % G.w.window, k % G.pitch


@jit
def load_windows(a_ptr, pixel, row, col, a_mask, step, G: tl.constexpr):
    """A's part (BM, BK) of a step; pixel, row, col: (BM,) where the windows begin, a_mask: which rows exist."""
    k = tl.arange(0, G.BK)[None, :]
    mask = a_mask[:, None]
    if G.flat:
        k += step * G.BK
        a, v, c = window_entry(k, G)
        if G.K % G.BK != 0:
            mask = mask & (k < G.K)
    else:
        blocks: tl.constexpr = G.depth // G.BK
        a, v = step // blocks // G.w.window, step // blocks % G.w.window
        c = step % blocks * G.BK + k
    if not G.inside:
        mask = mask & inside(row[:, None] + a, G.h.size) & inside(col[:, None] + v, G.w.size)
    offs = pixel[:, None] + ((a * G.w.size + v) * G.pitch + c)
    return tl.load(a_ptr + offs, mask=mask, other=0.0)


@jit
def inside(i, size):
    return (i >= 0) & (i < size)


@jit
def load_weights(w_ptr, n, step, G: tl.constexpr):
    """The weight's part (BK, BN) of a step; n: (BN,) columns."""
    k = tl.arange(0, G.BK)[:, None]
    mask = (n < G.N)[None, :]
    if G.flat:
        k += step * G.BK
        a, v, ck = window_entry(k, G)
        if G.K % G.BK != 0:
            mask = mask & (k < G.K)
        if G.w_depth < G.pitch:
            mask = mask & (ck < G.w_depth)
    else:
        blocks: tl.constexpr = G.depth // G.BK
        a, v = step // blocks // G.w.window, step // blocks % G.w.window
        ck = step % blocks * G.BK + k
    i, j = G.h.i0 + G.h.i_tap * a, G.w.i0 + G.w.i_tap * v
    cn = n % G.NP
    if G.phases > 1:
        phase = n // G.NP
        i += (phase // G.w.phases * G.h.i_phase)[None, :]
        j += (phase % G.w.phases * G.w.i_phase)[None, :]
    if G.banded:
        mask = mask & inside(i, G.h.kernel) & inside(j, G.w.kernel)
    if G.pieces != G.P2:
        mask = mask & (cn % G.P2 < G.pieces)[None, :]
        cn = cn // G.P2 * G.pieces + cn % G.P2
    if G.w_channels < G.NP:
        mask = mask & (cn < G.w_channels)[None, :]
    pixel = (i * G.w.kernel + j) * G.w_pitch
    across, along = (cn[None, :], ck * G.w_row) if G.adjoint else ((cn * G.w_row)[None, :], ck)
    return tl.load(w_ptr + (pixel + along + across), mask=mask, other=0.0)


@jit
def window_product(a_ptr, w_ptr, first, m, m_mask, n, G: tl.constexpr):
    """The tile's sums (BM, BN) in float32; m: (BM,) rows of the images from `first` on, n: (BN,) columns."""
    image, place = m // G.positions, m % G.positions
    row, col = place // G.w.grid * G.h.step - G.h.pad, place % G.w.grid * G.w.step - G.w.pad
    pixel = (((first + image) * G.h.size + row) * G.w.size + col) * G.pitch
    BM: tl.constexpr = G.BM
    BN: tl.constexpr = G.BN
    DOT: tl.constexpr = G.dot
    acc = tl.zeros((BM, BN), tl.float32)
    for step in tl.range(0, G.steps, num_stages=G.stages):
        a = load_windows(a_ptr, pixel, row, col, m_mask, step, G)
        b = load_weights(w_ptr, n, step, G)
        acc = multiply_add(a, b, acc, DOT)
    return acc
