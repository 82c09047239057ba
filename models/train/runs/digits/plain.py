"""The start of the shipped `digits` bundle: `certify train digits`; `python -m benchmarks.digits` goes the whole way.

The arithmetic: 1,078 images x 950 visits = 4,000 steps x 256 images, at about 7 steps a second on one core.
"""

from ...config import TrainConfig

CONFIG = TrainConfig(
    name="digits",
    version="2",
    dtype="bfloat16",  # twice as fast where the CPU has it, and the votes all but the same (docs/performance.md)
    final="plurality",  # never smaller than a last threshold of 1/2 (docs/protocol.md, 2.2)
    finetune="digits_classifier",  # the winner of docs/results.md
    finetune_seed=1,
    unet_channels=(16, 32),  # 7.5 MFLOP a sample; 48 and 64 channels denoise no better from 1,078 images
    unet_groups=8,  # at least two channels a group, or it could not see a channel's level
    unet_attention=False,  # 3x3 convolutions already see all of a 4x4 map
    classifier="test_resnet",  # 0.37 M weights, 1 MFLOP; a resnet10t costs more than the denoiser
    timesteps=1000,
    beta_start=1e-4,  # DDPM's schedule (Ho et al. 2020, section 4): scales from .005 to 79
    beta_end=0.02,
    augment_share=0.7,
    augment_degrees=14.0,
    augment_scale=0.12,
    augment_shear=0.2,
    augment_shift_pixels=0.6,  # digits are centred; a whole pixel moves a stroke onto its neighbour
    seed=0,
    steps=4000,
    batch=256,
    learning_rate=2e-3,
    warmup_steps=200,
    weight_decay=1e-2,
    grad_clip=1.0,
    beta2=0.99,  # the loss's scale changes fast in the first thousand steps of so short a run
    rate_floor=0.01,
    mixed_precision="no",
    checkpoint_every=1000,
    ema=0.999,  # an average over the last 1,000 steps or so; its own warm-up makes it usable from the start
    sigma_low=0.08,  # around .12 to 1.0, the scales judged
    sigma_high=1.1,
    denoise_weight=1.0,
    clean_share=0.25,  # clean images are easy; a quarter of the batch keeps the plain answer good
    clean_weight=0.25,
    sigmas=(0.12, 0.25, 0.5),  # at .75 noise alone takes a fifth of the images from a near-Bayes classifier
    report_sigmas=(0.12, 0.25, 0.5, 0.75, 1.0),
    tune_samples=1024,  # 2 minutes; a share near one half is known to 1.6%
    evaluate_samples=992,  # 31 chunks; `python -m benchmarks.digits digits --samples 10000` measures the card
    max_images=None,
    log_every=100,
)
