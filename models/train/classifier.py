"""The classifier to train: a small timm network at the images' own size, and its loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..classifier import Classifier
from ..preprocessing import bilinear
from .config import TrainConfig

__all__ = ("build_classifier", "classification_loss")

MEAN = STD = 0.5  # the classifier sees [-1, 1], as the denoiser does


def build_classifier(config: TrainConfig, shape: tuple[int, int, int], classes: int) -> Classifier:
    """A fresh timm network for (N, C, H, W) in [0, 1] -> (N, classes), without resizing."""
    import timm

    channels = shape[0]
    # Without the tag and license of timm's ImageNet weights, which are not used.
    settings = {"input_size": shape, "mean": (MEAN,) * channels, "std": (STD,) * channels, "tag": "", "license": None}
    net = timm.create_model(config.classifier, in_chans=channels, num_classes=classes)
    net.pretrained_cfg = {**net.pretrained_cfg, **settings}
    return Classifier(net, bilinear(net.pretrained_cfg))


def classification_loss(logits: Tensor, labels: Tensor, denoised: int, clean_weight: float) -> Tensor:
    """Cross-entropy on `denoised` denoised images plus clean_weight times that on the clean ones after them.

    logits: (denoised + clean, K); labels: (denoised + clean,). Both are means: the weight says the same at any batch.
    """
    on_denoised = functional.cross_entropy(logits[:denoised], labels[:denoised])
    on_clean = functional.cross_entropy(logits[denoised:], labels[denoised:])
    return on_denoised + clean_weight * on_clean
