"""The classifier to train: a small timm network, and its loss."""

from __future__ import annotations

from torch import Tensor

from ..classifier import Classifier
from ..preprocessing import bilinear
from .config import JointConfig
from .losses import LOSSES, cross_entropy

__all__ = ("build_classifier", "classification_loss")

MEAN = STD = 0.5  # the classifier sees [-1, 1], as the denoiser does


def build_classifier(config: JointConfig, shape: tuple[int, int, int], classes: int) -> Classifier:
    """A fresh timm network for (N, C, H, W) in [0, 1] -> (N, classes); shape: (C, H, W)."""
    import timm

    channels, size = shape[0], config.classifier_size
    net = timm.create_model(config.classifier, in_chans=channels, num_classes=classes, **dict(config.classifier_args))
    settings = {
        "input_size": shape if size is None else (channels, size, size),
        "mean": (MEAN,) * channels,
        "std": (STD,) * channels,
        # Those of timm's ImageNet weights, which are not used.
        "tag": "",
        "license": None,
    }
    net.pretrained_cfg = {**net.pretrained_cfg, **settings}
    return Classifier(net, bilinear(net.pretrained_cfg))


def classification_loss(config: JointConfig, logits: Tensor, labels: Tensor, denoised: int) -> Tensor:
    """The loss on `denoised` denoised images plus clean_weight times cross-entropy on the clean ones after them.

    logits: (denoised + clean, K); labels: (denoised + clean,). Both are means: the weight says the same at any batch.
    """
    on_denoised = LOSSES[config.loss](logits[:denoised], labels[:denoised])
    return on_denoised + config.clean_weight * cross_entropy(logits[denoised:], labels[denoised:])
