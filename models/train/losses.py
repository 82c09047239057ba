"""What training minimises, of the classifier's answers on denoised images (arXiv 2310.16779, section 3.2).

F(x + d) is the softmax over classes on the denoised image x + d, and y the target class. All losses are means over the
batch, of logits (N, K) and targets int64 (N,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ("LOSSES", "anti_consistency", "brier", "consistency", "cross_entropy")


def brier(logits: Tensor, target: Tensor) -> Tensor:
    """Squared distance of F(x + d) to the one-hot target, in [0, 2] (Brier 1950).

    Bounded, unlike cross-entropy: an image that noise has destroyed cannot pull the network to over-confidence.
    """
    wanted = functional.one_hot(target, logits.shape[1]).to(logits.dtype)
    return (logits.softmax(dim=1) - wanted).square().sum(dim=1).mean()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-log F_y(x + d): the baseline that the paper argues against."""
    return functional.cross_entropy(logits, target)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"brier": brier, "cross_entropy": cross_entropy}


def anti_consistency(first: Tensor, second: Tensor, target: Tensor) -> Tensor:
    """-log(1 - F_c(x + d2)) wherever two draws of an image agree on a class c other than y; 0 for every other image.

    first, second: logits (N, K) of the two draws. A coarse scale that is wrong consistently decides for a wrong class,
    where one that disagrees with itself passes the image on to a finer scale. `first` only takes part in choosing c,
    which is held constant: no gradient flows into it.
    """
    with torch.no_grad():
        label = second.argmax(dim=1)
        penalised = (first.argmax(dim=1) == label) & (label != target)
    # log(1 - F_c) as log-sum-exp without c minus that with it: exact where F_c rounds to 1.
    others = second.masked_fill(functional.one_hot(label, second.shape[1]).bool(), -torch.inf)
    penalty = second.logsumexp(dim=1) - others.logsumexp(dim=1)
    return torch.where(penalised, penalty, torch.zeros_like(penalty)).mean()


def consistency(first: Tensor, second: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of both draws' F from their mean, plus half that mean's entropy.

    first, second: logits (N, K) of two draws of each image. What votes alike under noise has a large radius (Jeong and
    Shin, Consistency regularization for certified robustness, NeurIPS 2020: equation 9, with their eta = 0.5).
    """
    logs = torch.stack([first, second]).log_softmax(dim=2)  # (2, N, K)
    mean = logs.logsumexp(dim=0) - math.log(2)
    divergence = (logs.exp() * (logs - mean)).sum(dim=2).mean(dim=0)
    entropy = -(mean.exp() * mean).sum(dim=1)
    return (divergence + 0.5 * entropy).mean()
