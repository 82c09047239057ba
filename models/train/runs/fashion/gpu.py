"""Fashion-MNIST (Xiao et al. 2017, MIT): two minutes of an H200.

Two cores with AMX would take three and a half hours in bfloat16: 130 to 160 draws a second of 1.8 million, a third of
the time in convolutions' gradients and as much in group norms. Half the channels made it a tenth faster: cpu.py is for
them. What this run does not name is as in cifar10's.
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
