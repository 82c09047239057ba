"""CIFAR-10 within legs of two CPU cores: networks of 0.67 GFLOP together, end to end.

What it does not name is as in the GPU's run. bfloat16 is as fast as a CPU with AMX goes; elsewhere OpenVINO runs it in
float32.
"""

import dataclasses

from .gpu import CONFIG as GPU

CONFIG = dataclasses.replace(
    GPU,
    name="cifar10_cpu",
    unet_channels=(32, 64, 64),  # 487 MFLOP
    classifier_args=(("layers", (1, 2, 2, 1)), ("channels", (48, 64, 96, 128))),
    classifier_size=64,  # a stem that divides by four leaves 16x16
    augment_shift_pixels=3.0,
    steps=6000,
    batch=128,
    consistency=0.0,  # one draw of each image: a CPU has no time for two
    warmup_steps=200,
    ema=0.995,
    checkpoint_every=200,
    log_every=50,
    finetune=None,  # it ships nothing
    judge_images=500,
    tune_samples=256,
    samples=1000,
    cost_images=1,
)
