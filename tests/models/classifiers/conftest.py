"""A denoiser for 3x32x32, and the reference networks of tests/golden/classifiers: random weights, real layouts.

Their logits were computed by each network's own library: timm, transformers, onnxruntime.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("diffusers")
pytest.importorskip("timm")

GOLDEN = Path(__file__).parents[2] / "golden" / "classifiers"
SHAPE = (3, 32, 32)
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Pixels in [0, 1], and the same with noise, which must pass unclipped: (array in images.npz, array in a case's).
PICTURES = (("float", "logits"), ("outside", "logits_outside"))


def pictures(name: str) -> NDArray[np.float32]:
    with np.load(GOLDEN / "images.npz") as arrays:
        return np.ascontiguousarray(arrays[name])


def expected(case: str, name: str) -> NDArray[np.float32]:
    with np.load(GOLDEN / f"{case}.npz") as arrays:
        logits: NDArray[np.float32] = arrays[name]
    return logits


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = exp / exp.sum(axis=1, keepdims=True)
    return probabilities


@pytest.fixture(scope="session")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with denoiser/ and scheduler/."""
    import torch
    from diffusers import DDPMScheduler, UNet2DModel

    folder = tmp_path_factory.mktemp("denoiser")
    torch.manual_seed(0)
    UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(4, 8),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4,
        add_attention=False,
    ).save_pretrained(str(folder / "denoiser"), safe_serialization=True)  # fmt: skip
    DDPMScheduler().save_pretrained(str(folder / "scheduler"))
    return folder
