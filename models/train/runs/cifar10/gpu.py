"""CIFAR-10 within half an hour of one H100- or H200-class GPU, its measurement included: 1.3 GFLOP a sample."""

from ...config import FileConfig

CONFIG = FileConfig(
    name="cifar10",
    version="2",
    bundle="cifar10",
    says="CIFAR-10 (JPEG), 50,000 training images",
    shape=(3, 32, 32),
    dtype="bfloat16",
    unet_channels=(48, 64, 96),  # 800 MFLOP, 1.9 M weights
    unet_groups=8,
    unet_attention=False,
    classifier="resnet18",
    # 524 MFLOP, 2.5 M weights: the last stage of a ResNet-18 has three quarters of its weights and adds little on 3x3.
    classifier_args=(("layers", (2, 3, 3, 1)), ("channels", (64, 128, 128, 192))),
    classifier_size=96,  # a stem that divides by four leaves 24x24
    timesteps=1000,
    beta_start=1e-4,
    beta_end=0.02,
    augment_share=1.0,
    augment_degrees=0.0,
    augment_scale=0.0,
    augment_shear=0.0,
    augment_shift_pixels=4.0,
    augment_flip=True,
    augment_whole_pixels=True,
    seed=0,
    steps=5200,
    batch=512,  # times two draws
    learning_rate=2e-3,
    muon_rate=0.02,
    warmup_steps=300,
    weight_decay=5e-2,
    grad_clip=1.0,
    ema=0.998,
    mixed_precision="bf16",
    checkpoint_every=1000,
    sigma_low=0.22,  # the three scales are .25, .5 and 1
    sigma_high=1.1,
    loss="cross_entropy",
    consistency=3.0,
    denoise_weight=0.2,
    clean_share=0.125,
    clean_weight=0.1,
    sigmas=(0.25, 0.5, 1.0),
    log_every=100,
    tune_images=500,
    finetune="cifar10_brier_anti",
    judge_images=1000,
    tune_samples=2000,
    samples=10_000,
    cost_images=10,
)  # fmt: skip
