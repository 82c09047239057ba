"""Fashion-MNIST (Xiao et al. 2017, MIT): two minutes of an H200. A recipe for under an hour of a CPU was not tried.

What it does not name is as in cifar10's run.
"""

import dataclasses

from ..cifar10.gpu import CONFIG as GPU

CONFIG = dataclasses.replace(
    GPU,
    name="fashion",
    version="1",
    bundle="fashion",
    says="Fashion-MNIST, 60,000 training images",
    shape=(1, 28, 28),
    unet_channels=(24, 32, 48),
    classifier_args=(("layers", (1, 2, 2, 1)), ("channels", (32, 64, 96, 128))),
    classifier_size=64,  # a stem that divides by four leaves 16x16
    augment_shift_pixels=2.0,
    steps=1800,
    warmup_steps=200,
    checkpoint_every=500,
    consistency=2.0,
    clean_share=0.25,
    clean_weight=0.25,
)
