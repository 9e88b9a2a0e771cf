"""Both losses of the adversarial game from the logits of one stacked batch, with both gradients (paper eq. 4).

Rows [0, M) are data pairs with logits l_q, rows [M, 2M) sample pairs with logits l_p; s is the logistic function:

    L_D = mean softplus(-l_q) + mean softplus(l_p)      dL_D/dl_q = (s(l_q) - 1) / M    dL_D/dl_p = s(l_p) / M
    L_G = mean softplus(l_q) + mean softplus(-l_p)      dL_G/dl_q = s(l_q) / M          dL_G/dl_p = (s(l_p) - 1) / M

softplus(a) = max(a, 0) + log1p(exp(-|a|)) stays finite where log(1 + exp(a)) would overflow.
"""

from __future__ import annotations

import numpy as np

from ..arrays import AdversarialLosses


def adversarial_losses(logits: np.ndarray) -> AdversarialLosses:
    """L_D and L_G, each the mean over pairs of the sum of both terms, without a factor 1/2 (method 1.2).

    logits   (2M, ...) with one number a row: data pairs first, then sample pairs
    """
    rows = logits.shape[0] if logits.ndim else 0
    if rows == 0 or rows % 2 or logits.size != rows:
        raise ValueError(f"adversarial_losses: logits {logits.shape} must be (2M, 1, ...), data rows first")
    pairs = rows // 2
    decay = np.exp(-np.abs(logits))
    tail = np.log1p(decay)
    softplus, softplus_neg = np.maximum(logits, 0) + tail, np.maximum(-logits, 0) + tail
    # both s and 1 - s without cancellation: s(a) = 1 / (1 + e^-|a|) for a > 0, e^-|a| / (1 + e^-|a|) else
    positive = logits > 0
    prob = np.where(positive, 1, decay) / (1 + decay)
    rest = np.where(positive, decay, 1) / (1 + decay)
    glogits = np.empty((2, *logits.shape), logits.dtype)
    np.divide(-rest[:pairs], pairs, out=glogits[0, :pairs])
    np.divide(prob[pairs:], pairs, out=glogits[0, pairs:])
    np.divide(prob[:pairs], pairs, out=glogits[1, :pairs])
    np.divide(-rest[pairs:], pairs, out=glogits[1, pairs:])
    losses = [
        softplus_neg[:pairs].mean() + softplus[pairs:].mean(),
        softplus[:pairs].mean() + softplus_neg[pairs:].mean(),
        prob[:pairs].mean(),
        prob[pairs:].mean(),
    ]
    return AdversarialLosses(np.array(losses, logits.dtype), glogits)
