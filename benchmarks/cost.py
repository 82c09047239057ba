"""What one sample of a bundle costs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from certify.models.bundle import load_manifest
from certify.models.runtime import RuntimeOptions, load_pipeline

__all__ = ("size",)


def size(folder: Path) -> dict[str, float]:
    """MFLOP of one denoised and classified sample (a multiply-add is 2) and megabytes of weights, as figures."""
    pipeline, manifest = load_pipeline(folder, RuntimeOptions(engine="torch")), load_manifest(folder)
    x = torch.zeros(pipeline.micro_batch, *manifest.input_shape)
    with FlopCounterMode(display=False) as counter:
        pipeline.engine.logits(x, manifest.sigmas[0])
    weights = sum((folder / name).stat().st_size for name in manifest.files if name.endswith(".safetensors"))
    return {
        "mflop_per_sample": counter.get_total_flops() / pipeline.micro_batch / 1e6,
        "weights_megabytes": weights / 1e6,
    }
