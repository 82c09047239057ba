"""A bundle of your own networks, and votes of it: `python examples/own_bundle.py OUT`.

The networks here have random weights, so that the example needs no download; with trained ones the steps are the same.
Needs `pip install ".[cpu,torch]"` in a clone.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import timm.models
import torch
from diffusers import DDIMScheduler, UNet2DModel

from certify.models.pack import pack
from certify.models.runtime import load_pipeline

out = Path(sys.argv[1])
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    parts = Path(folder)
    # A denoiser of 8 x 8 grey images and its noise schedule, as diffusers saves them.
    denoiser = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        add_attention=False,
    )
    denoiser.save_pretrained(parts / "denoiser", safe_serialization=True)
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(parts / "scheduler")
    # A classifier of them, in timm's hub layout.
    classifier = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    classifier.pretrained_cfg = {**classifier.pretrained_cfg, "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,)}
    timm.models.save_for_hf(
        classifier, parts / "classifier", model_config={"model_args": {"in_chans": 1}}, safe_serialization=True
    )
    manifest, _ = pack(
        denoiser=parts / "denoiser",
        scheduler=parts / "scheduler",
        classifier=str(parts / "classifier"),
        sigmas=(0.25, 0.5),
        out=out,
    )

image = np.full((1, 8, 8), 0.2, np.float32)  # a picture: each value is n / 255
votes = load_pipeline(out).votes(image, sigma=0.25, seed=1, first=0, count=64)
print(f"{manifest.name} {manifest.digest}")
print(f"votes of 64 noisy copies at sigma 0.25: {votes.tolist()}")
