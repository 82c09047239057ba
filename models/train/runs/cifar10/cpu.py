"""CIFAR-10 within an hour of two CPU cores with AMX (two and a half without): networks of 0.67 GFLOP together.

The arithmetic, measured on two cores of a Xeon with AMX in bfloat16: the classifier trains on 400 images a second, the
denoiser on 180 (208 and 91 in float32). 8 epochs of the one are 17 minutes, 4.5 of the other 21; fine-tuning (two draws
through both networks) takes the rest.
"""

from ...config import FinetuneConfig, Optimisation, PairConfig

CONFIG = PairConfig(
    name="cifar10_cpu",
    version="1",
    dtype="bfloat16",  # as fast as a CPU with AMX goes; elsewhere OpenVINO runs it in float32
    unet_channels=(32, 64, 64),  # 487 MFLOP
    unet_layers=1,
    unet_groups=8,
    unet_attention=False,
    classifier="resnet10t",  # 179 MFLOP at 64x64: a stem that divides by four leaves 16x16
    classifier_args=(),
    classifier_size=64,
    timesteps=1000,
    beta_start=1e-4,
    beta_end=0.02,
    sigma_low=0.06,  # 0.12 to 2 in the [-1, 1] scale: the three scales are 0.5, 1 and 2
    sigma_high=1.2,
    augment_shift_pixels=3.0,
    tune_images=500,
    classifier_stage=Optimisation(
        seed=0, steps=3200, batch=128, learning_rate=2e-3, warmup_steps=200, weight_decay=5e-2,
        grad_clip=1.0, ema=0.995,
        mixed_precision="bf16", checkpoint_every=200,
    ),
    label_smoothing=0.1,
    denoiser_stage=Optimisation(
        seed=0, steps=3500, batch=64, learning_rate=1e-3, warmup_steps=200, weight_decay=1e-2,
        grad_clip=1.0, ema=0.995,
        mixed_precision="bf16", checkpoint_every=200,
    ),
    finetune=FinetuneConfig(
        name="cifar10", version="1", start="plain", trains="denoiser", loss="brier",
        anti_consistency=1.0, target="label", augment_share=1.0, augment_degrees=0.0, augment_scale=0.0,
        augment_shear=0.0, augment_shift_pixels=3.0, augment_flip=True, seed=0, steps=700, batch=48,
        learning_rate=5e-4, warmup_steps=50, weight_decay=1e-2,
        grad_clip=1.0, ema=0.99, mixed_precision="bf16", checkpoint_every=100,
    ),
    sigmas=(0.25, 0.5, 1.0),
    judge_images=100,
    tune_samples=256,
    cost_images=1,
    samples_before=1000,
    samples_after=1000,
)  # fmt: skip
