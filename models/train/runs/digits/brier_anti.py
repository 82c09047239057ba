"""The paper's fine-tuning of the digits denoiser: Brier loss and anti-consistency, true labels.

The arithmetic: 1,078 images x 47 visits = 400 steps x 128 images, two draws each: two minutes of one core.
"""

from ...config import FinetuneConfig
from .plain import CONFIG as PRETRAINING

CONFIG = FinetuneConfig(
    name="digits_brier_anti",
    version="1",
    start="digits_plain",
    trains="denoiser",
    loss="brier",
    anti_consistency=1.0,
    target="label",
    **PRETRAINING.augmentation(),
    seed=0,
    steps=400,
    batch=128,
    learning_rate=2e-4,  # a tenth of the pretraining's: it starts from a good place
    warmup_steps=50,
    weight_decay=1e-2,
    grad_clip=1.0,
    ema=0.99,  # an average over the last 100 steps
    mixed_precision="no",
    checkpoint_every=200,
)
