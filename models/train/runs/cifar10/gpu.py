"""CIFAR-10 within half an hour of one H100- or H200-class GPU: a UNet of at most 6 GFLOP, a ResNet-18 at 64x64."""

from ...config import FinetuneConfig, Optimisation, PairConfig

CONFIG = PairConfig(
    name="cifar10",
    version="1",
    dtype="bfloat16",
    unet_channels=(96, 160, 192),
    unet_layers=2,
    unet_groups=16,
    unet_attention=True,
    classifier="resnet18",
    classifier_args=(("channels", (48, 96, 192, 384)),),  # 3/4 of its width: 40 MB for both, in half precision
    classifier_size=96,
    timesteps=1000,
    beta_start=1e-4,
    beta_end=0.02,
    sigma_low=0.05,
    sigma_high=1.2,
    augment_shift_pixels=4.0,
    tune_images=500,
    classifier_stage=Optimisation(
        seed=0, steps=6000, batch=512, learning_rate=2e-3, warmup_steps=300, weight_decay=5e-2,
        grad_clip=1.0, ema=0.998,
        mixed_precision="bf16", checkpoint_every=1000,
    ),
    label_smoothing=0.1,
    denoiser_stage=Optimisation(
        seed=0, steps=9000, batch=512, learning_rate=1e-3, warmup_steps=500, weight_decay=1e-2,
        grad_clip=1.0, ema=0.999,
        mixed_precision="bf16", checkpoint_every=1000,
    ),
    finetune=FinetuneConfig(
        name="cifar10", version="1", start="plain", trains="denoiser", loss="brier",
        anti_consistency=1.0, target="label", augment_share=1.0, augment_degrees=0.0, augment_scale=0.0,
        augment_shear=0.0, augment_shift_pixels=4.0, augment_flip=True, seed=0, steps=1500, batch=256,
        learning_rate=2e-4, warmup_steps=100, weight_decay=1e-2,
        grad_clip=1.0, ema=0.995, mixed_precision="bf16", checkpoint_every=500,
    ),
    sigmas=(0.25, 0.5, 1.0),
    judge_images=500,
    tune_samples=1000,
    cost_images=10,
    samples_before=1000,
    samples_after=10_000,
)  # fmt: skip
