"""models.pack_folders: a pipeline's parts are found, and where there are several the user is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel

from certify.models.denoiser import Denoiser
from certify.models.errors import BundleError
from certify.models.pack_folders import denoiser_folder, scheduler_folder, weights_file
from certify.models.pack_sources import check_scheduler, copy_denoiser, read_denoiser


def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4,
        add_attention=False,
    )  # fmt: skip


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(str(tmp_path / "pipeline"))
    return tmp_path / "pipeline"


def loaded(network: Path, scheduler: Path, target: Path) -> Denoiser:
    """As a bundle has it."""
    target.mkdir()
    copy_denoiser(read_denoiser(network), network, target / "denoiser")
    shutil.copytree(scheduler, target / "scheduler")
    assert sorted(path.name for path in (target / "denoiser").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    return Denoiser.from_folder(target)


def test_a_pipelines_root_its_network_and_one_folder_of_all_are_the_same(pipeline: Path, tmp_path: Path) -> None:
    """The last as google/ddpm-cifar10-32 lies on the hub."""
    flat = tmp_path / "flat"
    shutil.copytree(pipeline / "unet", flat)
    shutil.copy(pipeline / "scheduler" / "scheduler_config.json", flat)
    (flat / "model_index.json").write_text("{}")
    for given, network, scheduler in (
        (pipeline, pipeline / "unet", pipeline / "scheduler"),
        (pipeline / "unet", pipeline / "unet", pipeline / "scheduler"),
        (flat, flat, flat),
    ):
        assert denoiser_folder(given) == network
        assert scheduler_folder(None, given, network) == scheduler
    assert scheduler_folder(pipeline, pipeline, pipeline / "unet") == pipeline / "scheduler"


def test_averaged_weights_are_taken_where_they_are_named(pipeline: Path, tmp_path: Path) -> None:
    """As diffusers' own average saves them, whose settings are none of the network's."""
    averaged = unet()
    with torch.no_grad():
        averaged.conv_in.weight += 1
    EMAModel(averaged.parameters(), model_cls=UNet2DModel, model_config=averaged.config).save_pretrained(
        str(pipeline / "unet_ema")
    )
    with pytest.raises(BundleError, match=r"expected one network, got unet and unet_ema; name the one .*unet_ema$"):
        denoiser_folder(pipeline)
    network = denoiser_folder(pipeline / "unet_ema")
    denoiser = loaded(network, scheduler_folder(None, network, network), tmp_path / "bundle")
    assert torch.equal(denoiser.unet.conv_in.weight, averaged.conv_in.weight)
    assert "decay" in json.loads((network / "config.json").read_text())
    assert "decay" not in json.loads((tmp_path / "bundle" / "denoiser" / "config.json").read_text())


def test_a_variant_of_the_weights_is_found_and_two_are_asked_about(pipeline: Path, tmp_path: Path) -> None:
    network = pipeline / "unet"
    (network / "diffusion_pytorch_model.safetensors").unlink()
    unet().half().save_pretrained(str(network), variant="fp16")
    denoiser = loaded(network, pipeline / "scheduler", tmp_path / "bundle")
    weight = denoiser.unet.conv_in.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, unet().half().conv_in.weight.float())
    unet().save_pretrained(str(network), variant="non_ema")
    with pytest.raises(BundleError, match=r"expected one variant of the weights, got .*fp16.*, .*non_ema.*; keep one"):
        weights_file(network)
    unet().save_pretrained(str(network))
    assert weights_file(network).name == "diffusion_pytorch_model.safetensors"


def test_what_is_no_single_safetensors_file_is_refused_with_the_command_that_writes_one(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = pipeline / "unet"
    unet().save_pretrained(str(network), safe_serialization=False)
    (network / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        BundleError, match=r"there: diffusion_pytorch_model\.bin\); expected safetensors in one"
    ) as refused:
        weights_file(network)
    command = str(refused.value).partition('python -c "')[2].removesuffix('"')
    exec(command, {})
    assert weights_file(network).suffix == ".safetensors"


def test_a_network_without_a_scheduler_is_asked_for_it(pipeline: Path) -> None:
    shutil.rmtree(pipeline / "scheduler")
    with pytest.raises(BundleError, match=r"scheduler: expected .*\(--scheduler\), as none is beside"):
        scheduler_folder(None, pipeline, pipeline / "unet")


@pytest.mark.parametrize("part", ["", "unet"])
def test_a_network_of_latents_is_none_of_pixels(part: str, pipeline: Path) -> None:
    """Of CompVis/ldm-celebahq-256 it has three channels, too."""
    (pipeline / "vqvae").mkdir()
    (pipeline / "vqvae" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"expected a network of pixels, got one of latents, as .*vqvae makes them"):
        denoiser_folder(pipeline / part)


@pytest.mark.parametrize("name", ["CogVideoXDDIMScheduler", "DPMSolverMultistepScheduler"])
def test_a_scheduler_whose_betas_are_not_all_of_its_schedule(name: str, tmp_path: Path) -> None:
    import diffusers

    scheduler = getattr(diffusers, name)
    scheduler().save_pretrained(str(tmp_path))
    path = tmp_path / "scheduler_config.json"
    config = json.loads(path.read_text())
    config["snr_shift_scale" if "snr_shift_scale" in config else "use_flow_sigmas"] = 3.0
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"(snr_shift_scale|use_flow_sigmas): expected .*, got 3\.0"):
        check_scheduler(tmp_path)
