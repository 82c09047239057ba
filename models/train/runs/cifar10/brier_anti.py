"""The paper's fine-tuning of CIFAR-10's denoiser, within ten minutes of two CPU cores: Brier loss, anti-consistency.

Trained from nothing under cross-entropy and consistency, a coarse scale votes alike where it does not know: at sigma 1,
"deer" for 29% of all noise. A few hundred steps spread those votes, and the finer scales get to decide.
"""

from ...config import FileFinetuneConfig
from .gpu import CONFIG as PRETRAINING

CONFIG = FileFinetuneConfig(
    name="cifar10_brier_anti",
    version="3",
    start="cifar10",
    trains="denoiser",
    loss="brier",
    anti_consistency=2.0,  # the one weight that was judged
    target="label",
    tune_images=PRETRAINING.tune_images,
    **PRETRAINING.augmentation(),
    seed=0,
    steps=300,
    batch=64,  # times two draws
    learning_rate=2e-4,  # a tenth of the pretraining's: it starts from a good place
    warmup_steps=30,
    weight_decay=1e-2,
    grad_clip=1.0,
    ema=0.99,  # an average over the last 100 steps
    mixed_precision="bf16",
    checkpoint_every=50,
)
