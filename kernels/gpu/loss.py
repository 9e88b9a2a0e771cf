"""Losses of the adversarial games from the logits of one stacked batch, with both gradients (paper eq. 4).

One logit a row: rows [0, M) are data pairs with logits l_q, rows [M, 2M) sample pairs with logits l_p; s is the
logistic function:

    L_D = mean softplus(-l_q) + mean softplus(l_p)      dL_D/dl_q = (s(l_q) - 1) / M    dL_D/dl_p = s(l_p) / M
    L_G = mean softplus(l_q) + mean softplus(-l_p)      dL_G/dl_q = s(l_q) / M          dL_G/dl_p = (s(l_p) - 1) / M

A few thousand numbers at most: one program walks over them, so that all sums are its own and their order is fixed.
softplus(a) = max(a, 0) + log1p(d), d = exp(-|a|), with log1p as a series that keeps its digits where d is small;
s and 1 - s are 1 / (1 + d) and d / (1 + d), whichever way round the sign says, so neither is a difference.

K logits a row: the formulas of the twin in `cpu/loss.py` (method 1.7), each row's classes side by side in a tile.
"""

from __future__ import annotations

from .. import device
from ..arrays import AdversarialLosses, Array, ClassLosses
from ..checks import check_class_losses
from ..launch import Work, jit, launch, tl

BLOCK = 1024  # pairs at a time
CLASS_BLOCK = 64  # rows of K logits at a time


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
    return _binary(a, mask)


@jit
def _binary(a, mask):
    """softplus(a), softplus(-a), s(a) and 1 - s(a); zeros where the mask is off."""
    decay = tl.exp(-tl.abs(a))
    tail = _log1p(decay)
    more, less = 1.0 / (1.0 + decay), decay / (1.0 + decay)
    softplus = tl.where(mask, tl.maximum(a, 0.0) + tail, 0.0)
    softplus_neg = tl.where(mask, tl.maximum(-a, 0.0) + tail, 0.0)
    prob = tl.where(mask, tl.where(a > 0, more, less), 0.0)
    return softplus, softplus_neg, prob, tl.where(mask, tl.where(a > 0, less, more), 0.0)


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


@jit
def _sum_log(rest):
    """ln(1 + rest) for rest from 0 up."""
    return tl.where(rest > 1.0, tl.log(1.0 + rest), _log1p(tl.minimum(rest, 1.0)))


@jit
def class_losses_kernel(logits_ptr, labels_ptr, losses_ptr, g_ptr, units_ptr, weights_ptr, pairs, labelled,
                        CLASSES: tl.constexpr, PITCH: tl.constexpr, L_PITCH: tl.constexpr, G_PITCH: tl.constexpr,
                        W_PITCH: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """losses: (6,), g: (2, rows) gradients of L_D, then of L_G, units: (rows,), all with G_PITCH numbers a row;
    weights: (2, rows) with W_PITCH. Every sum is this one program's own."""
    rows = 2 * pairs + labelled
    column = tl.arange(0, COLUMNS)[None, :]
    zeros = tl.zeros((BLOCK,), tl.float32)
    binary_d, loss_g, cross_sum, prob_data, prob_sample, right = zeros, zeros, zeros, zeros, zeros, zeros
    for first in range(0, rows, BLOCK):
        row = first + tl.arange(0, BLOCK)
        live = row < rows
        data, sample = row < pairs, live & (row >= pairs + labelled)
        known = (row >= pairs) & (row < pairs + labelled)
        inside = live[:, None] & (column < CLASSES)
        a = tl.load(logits_ptr + row[:, None] * PITCH + column, mask=inside, other=0.0).to(tl.float32)
        a = tl.where(column < CLASSES, a, float("-inf"))
        label_ptr = labels_ptr + (row - pairs)[:, None] * L_PITCH + column
        label = tl.load(label_ptr, mask=known[:, None] & (column < CLASSES), other=0.0).to(tl.float32)
        # a maximum passes NaN over, and it must show
        most = tl.where(tl.sum((a != a).to(tl.int32), axis=1) > 0, float("nan"), tl.max(a, axis=1))
        top = tl.min(tl.where(a == most[:, None], column, COLUMNS), axis=1)
        power = tl.where(column == top[:, None], 0.0, tl.exp(a - most[:, None]))
        others = tl.sum(power, axis=1)
        softmax = tl.where(column == top[:, None], 1.0, power) / (1.0 + others)[:, None]
        log = _sum_log(others)
        softplus, softplus_neg, prob, rest = _binary(most + log, data | sample)
        own = label == 1.0
        logit = tl.sum(tl.where(own, a, 0.0), axis=1)
        missed = tl.sum(tl.where(own, 0.0, softmax), axis=1)
        unit = tl.where(column < CLASSES, tl.where(own, -missed[:, None], softmax), 0.0)
        # the twin refuses what is not one-hot, here it must at least show
        hot = (tl.sum(own.to(tl.int32), axis=1) == 1) & (tl.sum(tl.abs(label), axis=1) == 1.0)
        cross = tl.where(hot, (most - logit) + log, float("nan"))
        binary_d += tl.where(data, softplus_neg, tl.where(sample, softplus, 0.0))
        loss_g += tl.where(data, softplus, tl.where(sample, softplus_neg, 0.0))
        cross_sum += tl.where(known, cross, 0.0)
        prob_data += tl.where(data, prob, 0.0)
        prob_sample += tl.where(sample, prob, 0.0)
        right += tl.where(known & (logit >= most), 1.0, 0.0)
        to_d = tl.where(data, -rest, tl.where(sample, prob, 0.0)) / (2 * pairs) + tl.where(known, 1.0 / labelled, 0.0)
        to_g = tl.where(data, prob, tl.where(sample, -rest, 0.0)) / pairs
        place = row[:, None] * G_PITCH + column
        whole = live[:, None] & (column < G_PITCH)
        tl.store(units_ptr + place, unit, mask=whole)
        # a NaN times a pad's zero would be none
        tl.store(g_ptr + place, tl.where(column < CLASSES, to_d[:, None] * unit, 0.0), mask=whole)
        tl.store(g_ptr + rows * G_PITCH + place, tl.where(column < CLASSES, to_g[:, None] * unit, 0.0), mask=whole)
        _store(weights_ptr, row, to_d, live, W_PITCH)
        _store(weights_ptr + rows * W_PITCH, row, to_g, live, W_PITCH)
    cross_mean = tl.sum(cross_sum) / labelled
    tl.store(losses_ptr, cross_mean + tl.sum(binary_d) / (2 * pairs))
    tl.store(losses_ptr + 1, tl.sum(loss_g) / pairs)
    tl.store(losses_ptr + 2, cross_mean)
    tl.store(losses_ptr + 3, tl.sum(prob_data) / pairs)
    tl.store(losses_ptr + 4, tl.sum(prob_sample) / pairs)
    tl.store(losses_ptr + 5, tl.sum(right) / labelled)


def class_losses(logits: Array, labels: Array) -> ClassLosses:
    """L_D and L_G of a discriminator that tells K classes of data and samples apart (method 1.7).

    logits   (2M + L, 1, ..., K): M data pairs, L labelled data pairs, M sample pairs
    labels   (L, 1, ..., K) the classes of the labelled pairs, one-hot; a row that is not makes L_D NaN

    Returns float32; all but the losses in padded pixels where logits has more than two axes.
    """
    pairs, labelled = check_class_losses("class_losses", logits.shape, labels.shape)
    rows, classes = len(logits), logits.shape[-1]
    losses = device.empty(6)
    new = device.empty_activation
    glogits, units, weights = new((2, *logits.shape)), new(logits.shape), new((2, *logits.shape[:-1], 1))
    constants = {"CLASSES": classes, "PITCH": device.pitch(logits), "L_PITCH": device.pitch(labels)}
    constants |= {"G_PITCH": device.pitch(units), "W_PITCH": device.pitch(weights)}
    constants |= {"COLUMNS": 1 << (constants["G_PITCH"] - 1).bit_length(), "BLOCK": CLASS_BLOCK}
    arguments = {"logits_ptr": logits, "labels_ptr": labels, "losses_ptr": losses, "g_ptr": glogits}
    arguments |= {"units_ptr": units, "weights_ptr": weights, "pairs": pairs, "labelled": labelled}
    read = logits.size * logits.dtype.itemsize + labels.size * labels.dtype.itemsize
    written = losses.nbytes + 4 * rows * (3 * constants["G_PITCH"] + 2 * constants["W_PITCH"])
    work = Work(read, written, 20 * rows * classes)
    launch(class_losses_kernel, 1, arguments, constants, warps=4, stages=1, work=work)
    return ClassLosses(losses, glogits, units, weights)
