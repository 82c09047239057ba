"""The networks of the literature at full width, on a CPU: `python -m benchmarks.large [NAME ...] --folder DIR`.

Their shapes with random weights, since a registry's weights are not fetched here: time and memory are those of the real
ones. Each is written as its authors save it, converted where it is OpenAI's, packed, and certifies one picture, each by
the command in a process of its own whose time and largest memory are read. Prints a line for each.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import timm.models
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image

from benchmarks.report import table
from certify.models.openai.flags import read_flags
from certify.models.openai.unet import configuration, parts

IMPROVED = (
    "--image_size 32 --num_channels 128 --num_res_blocks 3 --learn_sigma True --dropout 0.3 --diffusion_steps 4000 "
    "--noise_schedule cosine"
)
# https://github.com/openai/guided-diffusion, of 256x256_diffusion_uncond.pt
GUIDED = (
    "--attention_resolutions 32,16,8 --class_cond False --diffusion_steps 1000 --image_size 256 --learn_sigma True "
    "--noise_schedule linear --num_channels 256 --num_head_channels 64 --num_res_blocks 2 --resblock_updown True "
    "--use_fp16 True --use_scale_shift_norm True"
)


class Network(NamedTuple):
    side: int
    samples: int
    write: Callable[[Path], Path]  # into a folder; returns what --denoiser takes


def checkpoint(flags: str, family: str, folder: Path) -> Path:
    """Random weights under OpenAI's names, converted by the command."""
    read, _ = read_flags(flags, family)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in UNet2DModel(**configuration(read)).state_dict().items()}
    generator, state = torch.Generator().manual_seed(0), {}
    for part in parts(read):
        for kind in ("weight", "bias"):
            if (first := shapes.get(f"{part.ours[0]}.{kind}")) is not None:
                shape = (len(part.ours) * first[0], *first[1:])
                scale = math.prod(first[1:]) ** -0.5 if len(first) > 1 else 0.02
                tensor = torch.randn(shape, generator=generator) * scale
                state[f"{part.theirs}.{kind}"] = tensor + 1 if kind == "weight" and len(first) == 1 else tensor
    torch.save(state, folder / "checkpoint.pt")
    del state
    out = folder / "converted"
    options = ("--family", family, "--flags", flags, "--out", out)
    report("convert", certify("bundles", "convert", "openai", folder / "checkpoint.pt", *options))
    (folder / "checkpoint.pt").unlink()
    return out


def diffusers(side: int, widths: tuple[int, ...], attended: int, folder: Path) -> Path:
    """As google/ddpm-cifar10-32 and google/ddpm-celebahq-256: one level with attention."""
    kinds = [
        ("AttnDownBlock2D", "AttnUpBlock2D") if n == attended else ("DownBlock2D", "UpBlock2D")
        for n in range(len(widths))
    ]
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=side, block_out_channels=widths, layers_per_block=2, attention_head_dim=None, norm_eps=1e-6,
        down_block_types=tuple(down for down, _ in kinds), up_block_types=tuple(up for _, up in reversed(kinds)),
        flip_sin_to_cos=False, freq_shift=1, downsample_padding=0,
    )  # fmt: skip
    unet.save_pretrained(str(folder / "pipeline" / "unet"), safe_serialization=True)
    DDPMScheduler().save_pretrained(str(folder / "pipeline" / "scheduler"))
    return folder / "pipeline"


NETWORKS = {
    "google/ddpm-cifar10-32": Network(32, 256, lambda to: diffusers(32, (128, 256, 256, 256), 1, to)),
    "improved-diffusion, CIFAR-10": Network(32, 256, lambda to: checkpoint(IMPROVED, "improved", to)),
    "guided-diffusion, 256x256": Network(256, 32, lambda to: checkpoint(GUIDED, "guided", to)),
    "google/ddpm-celebahq-256 at 512 px": Network(
        512, 32, lambda to: diffusers(512, (128, 128, 256, 256, 512, 512), 4, to)
    ),
}


class Run(NamedTuple):
    seconds: float
    cpu: float  # seconds of one core: what a busy machine changes least
    gib: float
    out: str

    def __str__(self) -> str:
        return f"{self.seconds:,.0f} s ({self.cpu:,.0f} of a core), {self.gib:.1f} GiB"


def certify(*arguments: str | Path) -> Run:
    """One command in a process of its own. wait4: the largest memory of this child, not of all so far."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "certify", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as stream:
        out = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(out)
    return Run(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, out)


def report(what: str, run: Run) -> None:
    print(f"{what}: {run}\n{run.out}", flush=True)


def measured(name: str, folder: Path, dtype: str, samples: int | None) -> list[str]:
    network = NETWORKS[name]
    folder.mkdir(parents=True)
    denoiser = network.write(folder)
    classifier = timm.create_model("resnet18", num_classes=10)
    classifier.pretrained_cfg = {**classifier.pretrained_cfg, "input_size": (3, network.side, network.side)}
    timm.models.save_for_hf(classifier, str(folder / "classifier"), safe_serialization=True)
    pack = certify(
        "bundles", "pack", "--denoiser", denoiser, "--classifier", folder / "classifier", "--sigmas", "0.5", "--dtype",
        dtype, "--out", folder / "bundle",
    )  # fmt: skip
    report("pack", pack)
    shutil.rmtree(denoiser)
    pixels = np.random.default_rng(0).integers(0, 256, (network.side, network.side, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    draws = str(samples or network.samples)
    image = certify("image", folder / "picture.png", "--bundle", folder / "bundle", "--samples", draws)
    report("image", image)
    shutil.rmtree(folder)
    cost = next(line for line in pack.out.splitlines() if line.startswith("cost"))
    cells = [name, dtype, str(pack), cost.removeprefix("cost").strip()]
    return [*cells, f"{draws}: {image}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(NETWORKS)} (all)")
    parser.add_argument("--folder", type=Path, required=True, help="where they are written and removed: 12 GB at most")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--samples", type=int, help="draws of the picture")
    options = parser.parse_args()
    rows = [
        measured(name, options.folder / str(number), options.dtype, options.samples)
        for number, name in enumerate(options.names or NETWORKS)
    ]
    print(table(["network", "dtype", "pack", "what it says of a draw", "draws of a picture"], rows))


if __name__ == "__main__":
    main()
