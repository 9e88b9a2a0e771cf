"""Losses of the adversarial games from the logits of one stacked batch, with both gradients (paper eq. 4).

One logit a row. Rows [0, M) are data pairs with logits l_q, rows [M, 2M) sample pairs with logits l_p; s is the
logistic function:

    L_D = mean softplus(-l_q) + mean softplus(l_p)      dL_D/dl_q = (s(l_q) - 1) / M    dL_D/dl_p = s(l_p) / M
    L_G = mean softplus(l_q) + mean softplus(-l_p)      dL_G/dl_q = s(l_q) / M          dL_G/dl_p = (s(l_p) - 1) / M

softplus(a) = max(a, 0) + log1p(exp(-|a|)) stays finite where log(1 + exp(a)) would overflow.

K logits a row, of the K classes that data have; a class K + 1, "sample", has the logit 0 (method 1.7). Rows [0, M) are
data pairs, [M, M + L) labelled data pairs, the last M sample pairs. Z = log sum_k exp(l_k) is the logit of "data":

    L_D = mean over labelled pairs of (Z - l_y) + 1/2 (L_D as above with l = Z)       L_G as above with l = Z
    dZ/dl_k = p_k = exp(l_k - Z)        d(Z - l_y)/dl_k = p_k - [k = y]

With m = max l and r = the sum of exp(l_k - m) over all k but that of the maximum, Z = m + log1p(r) and
Z - l_y = (m - l_y) + log1p(r): nothing overflows, and where a label is clear its small loss keeps its digits, as does
its gradient 1 - p_y, summed from the other classes.
"""

from __future__ import annotations

import numpy as np

from ..arrays import AdversarialLosses, ClassLosses
from ..checks import check_class_losses
from . import passes
from .passes.plain import softplus_terms  # of K logits a row, whichever passes are in use


def adversarial_losses(logits: np.ndarray) -> AdversarialLosses:
    """L_D and L_G, each the mean over pairs of the sum of both terms, without a factor 1/2 (method 1.2).

    logits   (2M, ...) with one number a row: data pairs first, then sample pairs
    """
    rows = logits.shape[0] if logits.ndim else 0
    if rows == 0 or rows % 2 or logits.size != rows:
        raise ValueError(f"adversarial_losses: logits {logits.shape} must be (2M, 1, ...), data rows first")
    pairs = rows // 2
    losses, glogits = np.empty(4, logits.dtype), np.empty((2, *logits.shape), logits.dtype)
    passes.adversarial(logits.reshape(2, pairs), losses, glogits.reshape(2, 2, pairs))
    return AdversarialLosses(losses, glogits)


def class_losses(logits: np.ndarray, labels: np.ndarray) -> ClassLosses:
    """L_D and L_G of a discriminator that tells K classes of data and samples apart (method 1.7).

    logits   (2M + L, 1, ..., K): M data pairs, L labelled data pairs, M sample pairs
    labels   (L, 1, ..., K) the classes of the labelled pairs, one-hot: 1 at the class, 0 elsewhere

    ValueError for a row that is not one-hot.
    """
    pairs, labelled = check_class_losses("class_losses", logits.shape, labels.shape)
    flat = logits.reshape(len(logits), -1)
    known = slice(pairs, pairs + labelled)
    hot = labels.reshape(labelled, -1)
    if np.any((hot == 0).sum(axis=1) != flat.shape[1] - 1) or np.any(hot.max(axis=1) != 1):
        raise ValueError("class_losses: a row of labels is not one-hot: a single 1 among zeros")
    number = np.arange(labelled), hot.argmax(axis=1)
    most, others, units = _softmax(flat)
    log = np.log1p(others)
    softplus, softplus_neg, prob, rest = softplus_terms(most + log)
    cross = (most[known] - flat[known][number]) + log[known]
    own = units[known]
    own[number] = 0
    own[number] = -own.sum(axis=1)
    weights = np.zeros((2, len(flat)), flat.dtype)
    weights[0, :pairs], weights[0, known] = -rest[:pairs] / (2 * pairs), 1 / labelled
    weights[0, known.stop :] = prob[known.stop :] / (2 * pairs)
    weights[1, :pairs], weights[1, known.stop :] = prob[:pairs] / pairs, -rest[known.stop :] / pairs
    losses = [
        cross.mean() + (softplus_neg[:pairs].mean() + softplus[known.stop :].mean()) / 2,
        softplus[:pairs].mean() + softplus_neg[known.stop :].mean(),
        cross.mean(),
        prob[:pairs].mean(),
        prob[known.stop :].mean(),
        (flat[known][number] >= most[known]).mean(),
    ]
    glogits = (weights[..., None] * units).reshape(2, *logits.shape)
    shape = (2, *logits.shape[:-1], 1)
    return ClassLosses(np.array(losses, logits.dtype), glogits, units.reshape(logits.shape), weights.reshape(shape))


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """logits: (N, K) -> the largest of each row (N,), the sum of exp(l - largest) over the others (N,), softmax."""
    top = np.arange(len(logits)), logits.argmax(axis=1)
    most = logits[top]
    powers = np.exp(logits - most[:, None])
    powers[top] = 0
    others = powers.sum(axis=1)
    powers[top] = 1
    return most, others, powers / (1 + others)[:, None]
