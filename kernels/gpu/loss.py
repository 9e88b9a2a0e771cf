"""Both losses of the adversarial game from the logits of one stacked batch, with both gradients (paper eq. 4).

Rows [0, M) are data pairs with logits l_q, rows [M, 2M) sample pairs with logits l_p; s is the logistic function:

    L_D = mean softplus(-l_q) + mean softplus(l_p)      dL_D/dl_q = (s(l_q) - 1) / M    dL_D/dl_p = s(l_p) / M
    L_G = mean softplus(l_q) + mean softplus(-l_p)      dL_G/dl_q = s(l_q) / M          dL_G/dl_p = (s(l_p) - 1) / M

A few thousand numbers at most: one program walks over them, so that all sums are its own and their order is fixed.
softplus(a) = max(a, 0) + log1p(d), d = exp(-|a|), with log1p as a series that keeps its digits where d is small;
s and 1 - s are 1 / (1 + d) and d / (1 + d), whichever way round the sign says, so neither is a difference.
"""

from __future__ import annotations

from .. import device
from ..arrays import AdversarialLosses, Array
from ..launch import Work, jit, launch, tl

BLOCK = 1024  # pairs at a time


@jit
def _log1p(d):
    """ln(1 + d) = 2 atanh(s), s = d / (2 + d) <= 1/3, for d in [0, 1]."""
    s = d / (2.0 + d)
    ss = s * s
    series = 1 / 9 + ss * (1 / 11 + ss * (1 / 13))
    return 2.0 * s * (1.0 + ss * (1 / 3 + ss * (1 / 5 + ss * (1 / 7 + ss * series))))


@jit
def _terms(logits_ptr, rows, mask, PITCH: tl.constexpr):
    """softplus(l), softplus(-l), s(l) and 1 - s(l) of some rows; zeros where the mask is off."""
    a = tl.load(logits_ptr + rows * PITCH, mask=mask, other=0.0).to(tl.float32)
    decay = tl.exp(-tl.abs(a))
    tail = _log1p(decay)
    more, less = 1.0 / (1.0 + decay), decay / (1.0 + decay)
    softplus = tl.where(mask, tl.maximum(a, 0.0) + tail, 0.0)
    softplus_neg = tl.where(mask, tl.maximum(-a, 0.0) + tail, 0.0)
    prob = tl.where(mask, tl.where(a > 0, more, less), 0.0)
    return softplus, softplus_neg, prob, tl.where(a > 0, less, more)


@jit
def _store(g_ptr, rows, g, mask, PITCH: tl.constexpr):
    """One number a row, and zeros in what is left of its pixel."""
    column = tl.arange(0, PITCH)[None, :]
    tl.store(g_ptr + rows[:, None] * PITCH + column, tl.where(column == 0, g[:, None], 0.0), mask=mask[:, None])


@jit
def adversarial_losses_kernel(logits_ptr, losses_ptr, g_ptr, pairs, PITCH: tl.constexpr, G_PITCH: tl.constexpr,
                              BLOCK: tl.constexpr):  # fmt: skip
    """losses: (4,): L_D, L_G, mean s(l_q), mean s(l_p); g: (2, 2 pairs) gradients of L_D, then of L_G."""
    zeros = tl.zeros((BLOCK,), tl.float32)
    loss_d, loss_g, prob_data, prob_sample = zeros, zeros, zeros, zeros
    gg_ptr = g_ptr + 2 * pairs * G_PITCH
    for first in range(0, pairs, BLOCK):
        data = first + tl.arange(0, BLOCK)
        mask = data < pairs
        softplus, softplus_neg, prob, rest = _terms(logits_ptr, data, mask, PITCH)
        loss_d, loss_g, prob_data = loss_d + softplus_neg, loss_g + softplus, prob_data + prob
        _store(g_ptr, data, -rest / pairs, mask, G_PITCH)
        _store(gg_ptr, data, prob / pairs, mask, G_PITCH)
        softplus, softplus_neg, prob, rest = _terms(logits_ptr, pairs + data, mask, PITCH)
        loss_d, loss_g, prob_sample = loss_d + softplus, loss_g + softplus_neg, prob_sample + prob
        _store(g_ptr, pairs + data, prob / pairs, mask, G_PITCH)
        _store(gg_ptr, pairs + data, -rest / pairs, mask, G_PITCH)
    tl.store(losses_ptr, tl.sum(loss_d) / pairs)
    tl.store(losses_ptr + 1, tl.sum(loss_g) / pairs)
    tl.store(losses_ptr + 2, tl.sum(prob_data) / pairs)
    tl.store(losses_ptr + 3, tl.sum(prob_sample) / pairs)


def adversarial_losses(logits: Array) -> AdversarialLosses:
    """L_D and L_G, each the mean over pairs of the sum of both terms, without a factor 1/2 (method 1.2).

    logits   (2M, ...) with one number a row: data pairs first, then sample pairs

    Returns losses: (4,) and glogits: (2, 2M, ...), in padded pixels where logits has more than one axis; both float32.
    """
    rows = logits.shape[0] if logits.ndim else 0
    if rows == 0 or rows % 2 or logits.size != rows:
        raise ValueError(f"adversarial_losses: logits {logits.shape} must be (2M, 1, ...), data rows first")
    losses = device.empty(4)
    if logits.ndim > 1:
        glogits = device.empty_activation((2, *logits.shape))
        pitches = {"PITCH": device.pitch(logits), "G_PITCH": device.pitch(glogits)}
    else:
        glogits, pitches = device.empty((2, rows)), {"PITCH": 1, "G_PITCH": 1}
    arguments = {"logits_ptr": logits, "losses_ptr": losses, "g_ptr": glogits, "pairs": rows // 2}
    work = Work(rows * logits.dtype.itemsize, losses.nbytes + 8 * rows * pitches["G_PITCH"], 40 * rows)
    constants = {**pitches, "BLOCK": BLOCK}
    launch(adversarial_losses_kernel, 1, arguments, constants, warps=8, stages=1, work=work)
    return AdversarialLosses(losses, glogits)
