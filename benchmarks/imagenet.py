"""What certificates of ImageNet's size would cost, by arithmetic: `python -m benchmarks.imagenet`. Nothing is timed.

Networks of the shape that Carlini et al. (2022) and the paper use, built without weights: a class-unconditional UNet of
guided diffusion's 256x256 shape, as diffusers builds it, and timm's BEiT-Large at 512x512. Their FLOP are counted, and
divided by a GPU's arithmetic. Writes its part of docs/performance.md.
"""

from __future__ import annotations

import argparse
import math

import timm
import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import table
from benchmarks.tables import PERFORMANCE, write

SIDES = (64, 128, 256)
CLASSIFIER, CLASSIFIER_SIDE = "beit_large_patch16_512", 512
# NVIDIA's data sheet for an H100 SXM: 989 TFLOP/s of bfloat16 without sparsity. Half of a peak is this project's goal;
# `make bench-gpu` measures what a device and a bundle really reach.
PEAK_TFLOPS, SHARE = 989.0, 0.5
# The reference protocol at three scales that all are visited, this service's default, and its small budget.
SAMPLES = {"reference, three scales visited": 3 * 10_100, "samples = 10,000": 10_000, "samples = 3,000": 3_000}
MICRO_BATCH = 64  # what fits a GPU's memory beside such a network; a smaller one would not fill it
GPUS = (1, 8, 64)


def unet(side: int) -> UNet2DModel:
    """Guided diffusion's 256x256 network (552.8 M parameters there), for images of another side too."""
    return UNet2DModel(
        sample_size=side, in_channels=3, out_channels=6, layers_per_block=2,
        block_out_channels=(256, 256, 512, 512, 1024, 1024),
        down_block_types=("DownBlock2D",) * 3 + ("AttnDownBlock2D",) * 3,
        up_block_types=("AttnUpBlock2D",) * 3 + ("UpBlock2D",) * 3,
        attention_head_dim=64, downsample_type="resnet", upsample_type="resnet", resnet_time_scale_shift="scale_shift",
    )  # fmt: skip


def gflop(network: torch.nn.Module, *arguments: torch.Tensor) -> float:
    """Of one forward, a multiply-add being two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(*arguments)
    flop: int = counter.get_total_flops()
    return flop / 1e9


def seconds(samples: int, gpus: int, rate: float) -> float:
    """Of one answer whose micro-batches are spread over the GPUs: a look cannot end before its last one does."""
    return math.ceil(math.ceil(samples / MICRO_BATCH) / gpus) * MICRO_BATCH / rate


def text() -> str:
    with torch.device("meta"):  # shapes only: no weights are made
        denoisers = {side: gflop(unet(side), torch.zeros(1, 3, side, side), torch.zeros(1)) for side in SIDES}
        millions = sum(p.numel() for p in unet(SIDES[-1]).parameters()) / 1e6
        model = timm.create_model(CLASSIFIER)
        classifier = gflop(model, torch.zeros(1, 3, CLASSIFIER_SIDE, CLASSIFIER_SIDE))
    cost = denoisers[SIDES[-1]] + classifier
    rate = PEAK_TFLOPS * 1000 * SHARE / cost
    counted = [
        [f"UNet, {millions:.0f} M parameters, {side}x{side}", f"{gflops:,.0f}"] for side, gflops in denoisers.items()
    ]
    counted.append([f"timm's {CLASSIFIER}", f"{classifier:,.0f}"])
    rows = []
    for name, samples in SAMPLES.items():
        rows.append(
            [name, f"{samples:,}", *(f"{seconds(samples, n, rate):,.1f}" for n in GPUS),
             *(f"{3600 * rate * n / samples:,.0f}" for n in GPUS)]
        )  # fmt: skip
    head = ["answer", "samples"]
    head += [f"seconds, {n} GPU{'s' * (n > 1)}" for n in GPUS] + [f"answers an hour, {n}" for n in GPUS]
    return "\n\n".join(
        [
            table(["network", "GFLOP a sample"], counted),
            f"Arithmetic, not a measurement: {cost:,.0f} GFLOP a sample at 256x256, on a GPU that gives {SHARE:.0%} of "
            f"{PEAK_TFLOPS:,.0f} TFLOP/s, are {rate:,.0f} samples a second for each GPU; micro-batches of "
            f"{MICRO_BATCH}. Seconds are of one answer that has all the GPUs, answers an hour of many at once.",
            table(head, rows),
        ]
    )


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m benchmarks.imagenet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    tables = text()
    print(tables)
    write("imagenet", tables, PERFORMANCE)


if __name__ == "__main__":
    main()
