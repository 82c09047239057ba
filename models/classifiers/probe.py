"""Is a network that torch runs a classifier of single pictures? Asked before it is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ..classifier import Classifier
from ..errors import BundleError

__all__ = ("outputs_of",)

PICTURES = 4  # half of them change
# Of the largest logit: a library may sum in another order at another place, but not by more.
CLOSE = 1e-3


def outputs_of(classifier: Classifier, shape: tuple[int, int, int], where: object) -> int:
    """How many classes it answers with. Raises BundleError unless each picture's logits are its own, at every call."""
    generator = torch.Generator().manual_seed(0)
    pictures, others = (torch.rand(PICTURES, *shape, generator=generator) for _ in range(2))
    mixed = torch.cat((pictures[: PICTURES // 2], others[PICTURES // 2 :]))
    try:
        with torch.inference_mode():
            logits, again, among = classifier(pictures), classifier(pictures), classifier(mixed)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise BundleError(
            f"{where}: expected a network for pictures of {'x'.join(map(str, classifier.input_size))}, got: {said}; "
            "--input-size says another size"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != PICTURES or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BundleError(f"{where}: expected logits (N, K) of at least 2 classes for {PICTURES} pictures, got {got}")
    if not torch.isfinite(logits).all():
        raise BundleError(f"{where}: expected finite logits, got others for a picture of random pixels")
    close = CLOSE * float(logits.abs().max())
    if not torch.allclose(logits, again, rtol=0, atol=close):
        raise BundleError(f"{where}: expected the same logits at every call, got others at the second")
    half = PICTURES // 2
    if not torch.allclose(logits[:half], among[:half], rtol=0, atol=close):
        raise BundleError(f"{where}: expected logits that depend on their picture alone, not on others of its batch")
    return int(logits.shape[1])
