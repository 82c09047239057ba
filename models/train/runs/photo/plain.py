"""`certify train photo --data DIR`: the denoiser of the `photo` bundle, in half an hour of one AVX2 core."""

from ...config import Optimisation, PhotoConfig

CONFIG = PhotoConfig(
    name="photo",
    version="1",
    dtype="bfloat16",  # half the bytes
    unet_channels=(64, 96, 128),  # 5.0 GFLOP at 224 px, 3.6 M weights
    unet_layers=1,
    unet_groups=32,
    block=4,  # at full resolution the narrowest network costs twice as much as this one
    size=224,
    timesteps=1000,
    beta_start=1e-4,
    beta_end=0.02,
    sigma_low=0.18,  # at .12 the classifier does better without a denoiser
    sigma_high=0.7,
    patch=96,  # six times as many pictures in a batch as at 224 px
    pixels_stage=Optimisation(
        seed=0, steps=1500, batch=16, learning_rate=2e-3, muon_rate=0.02, warmup_steps=50, weight_decay=0.0,
        grad_clip=1.0, ema=0.998, mixed_precision="no", checkpoint_every=100, rate_floor=0.1,
    ),
    features_stage=Optimisation(
        seed=0, steps=450, batch=4, learning_rate=5e-4, muon_rate=0.005, warmup_steps=50, weight_decay=0.0,
        grad_clip=1.0, ema=0.998, mixed_precision="no", checkpoint_every=50,
    ),
    feature_weight=0.1,
    answer_weight=0.05,
)  # fmt: skip
