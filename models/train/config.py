"""The knobs of a training run; the files in models/train/runs set them, with reasons."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from ..bundle import Final

__all__ = (
    "Augmentation",
    "FileConfig",
    "FileFinetuneConfig",
    "FinetuneConfig",
    "JointConfig",
    "Optimisation",
    "PhotoConfig",
    "TrainConfig",
)


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How a stage is trained: linear warm-up, then a cosine."""

    NOT_TRAINING: ClassVar[frozenset[str]] = frozenset()  # fields on which the weights do not depend

    seed: int
    steps: int
    batch: int  # images, of each process
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    ema: float  # of the weights, as which the network ends
    mixed_precision: Literal["no", "bf16"]
    checkpoint_every: int  # steps
    beta2: float = 0.999  # of AdamW: torch's own default
    rate_floor: float = 0.0  # where the cosine ends, as a share of the learning rate
    muon_rate: float = 0.0  # of weight matrices, by Muon; 0: they go with AdamW, as all else does

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every", "warmup_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Of training images, by models.train.data.augmented."""

    augment_share: float
    augment_degrees: float
    augment_scale: float
    augment_shear: float
    augment_shift_pixels: float
    augment_flip: bool = False  # digits are not their mirror images
    augment_whole_pixels: bool = False  # shifts that blur nothing

    def augmentation(self) -> dict[str, Any]:
        """These fields alone, for a run that goes on from this one."""
        return {field.name: getattr(self, field.name) for field in fields(Augmentation)}


@dataclass(frozen=True, kw_only=True)
class JointConfig(Optimisation, Augmentation):
    """Both networks together, from nothing. Scales are in units of [0, 1] pixels."""

    # what comes out
    name: str  # of the run
    version: str
    dtype: Literal["float32", "bfloat16"]  # in which both run
    # networks
    unet_channels: tuple[int, ...]  # width at each resolution, finest first
    unet_layers: int = 1  # residual blocks at each, on the way down
    unet_groups: int  # of its group norms
    unet_attention: bool
    unet_block: int = 1  # pixels a side that become channels (space to depth)
    classifier: str  # timm's name for it
    classifier_args: tuple[tuple[str, int | tuple[int, ...]], ...] = ()  # more for timm.create_model
    classifier_size: int | None = None  # images are resized to it: timm's stems are made for large ones; None = not
    # diffusion
    timesteps: int
    beta_start: float
    beta_end: float
    # losses
    sigma_low: float  # training draws scales log-uniformly between these two
    sigma_high: float
    loss: Literal["brier", "cross_entropy"] = "cross_entropy"  # of the denoised images' classes
    consistency: float = 0.0  # weight of that loss between two draws of an image; 0 draws one noise for each
    denoise_weight: float
    clean_share: float  # clean images for each denoised one in the classifier's loss
    clean_weight: float
    # of the bundle
    sigmas: tuple[float, ...]  # of the cascade
    log_every: int


@dataclass(frozen=True, kw_only=True)
class TrainConfig(JointConfig):
    """The digits' run: what is trained first comes out as <name>_plain."""

    final: Final  # how the finest scale decides
    finetune: str  # the run that goes on from the plain bundle
    finetune_seed: int
    # choosing and measuring
    report_sigmas: tuple[float, ...]  # single scales in the card
    tune_samples: int  # draws a scale on the tuning part
    evaluate_samples: int  # draws a scale on the held-out part, at the end of the command
    max_images: int | None  # of each part; None = all (the smoke test takes a few)


@dataclass(frozen=True, kw_only=True)
class FileConfig(JointConfig):
    """A run of a data file, train.npz."""

    NOT_TRAINING: ClassVar = frozenset(
        ("version", "dtype", "sigmas", "log_every", "checkpoint_every", "judge_images", "tune_samples", "samples")
        + ("cost_images", "finetune")
    )

    bundle: str  # the name of what it becomes
    says: str  # what the data is, for the provenance
    shape: tuple[int, int, int]  # (C, H, W) of the images
    tune_images: int  # the first of the training images, held aside to choose thresholds
    finetune: str | None = None  # the run that goes on from it to what ships; None = this is what ships
    # choosing and measuring
    judge_images: int  # test images
    tune_samples: int  # estimation samples at each scale of the images held aside
    samples: int  # of the test images
    cost_images: int  # of the table of draws and seconds, every policy on each


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Optimisation, Augmentation):
    """One fine-tuning run of a bundle's denoiser through its frozen classifier, or the reverse."""

    name: str  # of the bundle that comes out
    version: str
    start: str  # the bundle to begin from: a shipped one's name or a folder
    trains: Literal["denoiser", "classifier"]  # the other one is frozen
    loss: Literal["brier", "cross_entropy"]
    anti_consistency: float  # lambda, the weight of that loss; 0 draws one noise for each image, not two
    target: Literal["label", "oracle"]  # oracle: the start bundle's classifier on the clean image

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anti_consistency < 0:
            raise ValueError(f"anti_consistency: expected at least 0, got {self.anti_consistency}")


@dataclass(frozen=True, kw_only=True)
class FileFinetuneConfig(FinetuneConfig):
    """One fine-tuning run on a data file's training images."""

    tune_images: int  # the first of them, held aside as they were in the training that it goes on from


@dataclass(frozen=True, kw_only=True)
class PhotoConfig:
    """A denoiser of photographs of any size, for a classifier that is trained already: on pixels, then on features."""

    NOT_TRAINING: ClassVar = frozenset(("version", "dtype"))  # as Optimisation's

    name: str
    version: str
    dtype: Literal["float32", "bfloat16"]  # in which the weights are stored
    # network
    unet_channels: tuple[int, ...]
    unet_layers: int
    unet_groups: int
    block: int  # pixels a side that become channels (space to depth)
    size: int  # of the classifier's images
    # diffusion
    timesteps: int
    beta_start: float
    beta_end: float
    sigma_low: float  # training draws scales log-uniformly between these two
    sigma_high: float
    # stages
    patch: int  # of the first: it sees no more of a picture
    pixels_stage: Optimisation
    features_stage: Optimisation
    feature_weight: float  # of the classifier's early maps against the squared error of pixels
    answer_weight: float  # of its answers
