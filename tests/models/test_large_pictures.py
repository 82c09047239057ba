"""Large pictures: squares of pixels as channels of the denoiser, and chunks and micro-batches that fit memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("timm")
pytest.importorskip("openvino")

import timm
import timm.models
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image

from certify.models import cost
from certify.models.bundle import find_bundle, load_manifest
from certify.models.denoiser import Denoiser, channels_and_block
from certify.models.errors import BundleError
from certify.models.export import export
from certify.models.pack import pack
from certify.models.pipeline import Pipeline
from certify.models.runtime import RuntimeOptions, load_pipeline, options_for
from tests.cli.test_cli import certify
from tests.models.conftest import changed

PICTURE = np.random.default_rng(2).random((3, 8, 12), dtype=np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser of 4x6 squares of 2x2 RGB pixels that learned its variance, and a classifier."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=(4, 6), in_channels=12, out_channels=24, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4,
        add_attention=False,
    )  # fmt: skip
    unet.save_pretrained(str(folder / "denoiser"), safe_serialization=True)
    DDPMScheduler(prediction_type="sample").save_pretrained(str(folder / "scheduler"))
    net = timm.create_model("test_resnet", in_chans=3, num_classes=10)
    net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    timm.models.save_for_hf(net, str(folder / "classifier"), safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def bundle(saved: Path) -> Path:
    code, out, err = certify(
        "bundles", "pack", "--denoiser", saved / "denoiser", "--scheduler", saved / "scheduler", "--classifier",
        saved / "classifier", "--sigmas=0.25,0.5", "--chunk=1", "--micro-batch=2", "--out", saved / "bundle",
    )  # fmt: skip
    assert code == 0 and "input 3x8x12" in out and "2 together" in out, err
    return saved / "bundle"


def test_squares_of_pixels_are_the_networks_channels_there_and_back(bundle: Path) -> None:
    """Index by index: channel c, row i and column j of a square are channel 4 c + 2 i + j."""
    denoiser = Denoiser.from_folder(bundle).eval()
    noisy = torch.from_numpy(np.stack([PICTURE, 1.5 - PICTURE]))
    timestep, signal, noise = (torch.as_tensor(value) for value in denoiser.constants(0.5))
    squares, expected = torch.zeros(2, 12, 4, 6), torch.zeros(2, 3, 8, 12)
    for c, i, j in np.ndindex(3, 2, 2):
        squares[:, 4 * c + 2 * i + j] = (float(signal) * (2 * noisy - 1))[:, c, i::2, j::2]
    with torch.inference_mode():
        answer = denoiser.unet(squares, timestep, return_dict=False)[0]
        found = denoiser.denoise(noisy, 0.5)
    for c, i, j in np.ndindex(3, 2, 2):
        expected[:, c, i::2, j::2] = (answer[:, 4 * c + 2 * i + j].clamp(-1, 1) + 1) / 2
    assert torch.allclose(found, expected, atol=1e-6) and float(found.std()) > 0.01


def test_both_engines_compute_it_at_the_bundles_own_micro_batch(bundle: Path) -> None:
    logits = []
    for engine in ("torch", "openvino"):
        pipeline = load_pipeline(bundle, options_for(engine=engine, bundle=bundle))
        assert (pipeline.micro_batch, pipeline.manifest.chunk) == (2, 1)
        noise = pipeline.engine.noise(1, 0, 2, (1, *PICTURE.shape))
        noisy = pipeline.engine.place(PICTURE) + 0.5 * noise
        logits.append(pipeline.engine.fetch(pipeline.engine.logits(noisy, 0.5)))
        assert pipeline.votes(PICTURE, sigma=0.5, seed=1, first=3, count=3).sum() == 3
    assert np.abs(logits[0] - logits[1]).max() < 1e-4 < float(np.ptp(logits[0]))


@pytest.mark.parametrize(
    ("in_channels", "expected"), [(1, (1, 1)), (3, (3, 1)), (4, (1, 2)), (12, (3, 2)), (48, (3, 4)), (192, (3, 8))]
)
def test_channels_say_how_large_the_squares_are(in_channels: int, expected: tuple[int, int]) -> None:
    assert channels_and_block(in_channels) == expected


@pytest.mark.parametrize("in_channels", [0, 2, 6, 8, 24])
def test_other_channels_are_refused(in_channels: int) -> None:
    with pytest.raises(ValueError, match="or one of them times a square, got"):
        channels_and_block(in_channels)


def test_a_pack_proposes_what_fits(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less memory than the machine has."""
    manifest, _ = pack(classifier=str(saved / "classifier"), sigmas=(0.25,), out=saved / "roomy")
    assert (manifest.chunk, manifest.micro_batch, manifest.format) == (32, 0, 3)
    assert load_pipeline(saved / "roomy").micro_batch == 64
    one = int(manifest.figures["megabytes_per_sample"] * 1e6)
    monkeypatch.setattr(cost, "BYTES", 5 * one)
    manifest, _ = pack(classifier=str(saved / "classifier"), sigmas=(0.25,), out=saved / "tight")
    assert (manifest.chunk, manifest.micro_batch) == (4, 4)
    assert load_pipeline(saved / "tight").micro_batch == 4
    export(saved / "tight", saved / "repository")
    assert '\\"grain\\":4,' in (saved / "repository" / "mdds" / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("chunk", "micro_batch", "cpu", "cuda"), [(32, 0, 64, 512), (24, 0, 72, 576), (1, 1, 1, 8), (4, 8, 8, 64)]
)
def test_an_engine_takes_what_the_bundle_proposes(chunk: int, micro_batch: int, cpu: int, cuda: int) -> None:
    manifest = changed(load_manifest(find_bundle("digits")), chunk=chunk, micro_batch=micro_batch)
    for device, size in (("cpu", cpu), ("cuda", cuda)):
        assert RuntimeOptions(device=device).micro_batch_for(manifest) == size
    assert dataclasses.replace(RuntimeOptions(), micro_batch=96).micro_batch_for(manifest) == 96


@pytest.mark.parametrize("micro_batch", [-32, 33, 1.0, True])
def test_a_proposal_is_of_whole_chunks(micro_batch: object) -> None:
    with pytest.raises(BundleError, match="micro_batch: expected 0 or a multiple of the chunk, 32, got"):
        changed(load_manifest(find_bundle("digits")), micro_batch=micro_batch)


def test_image_says_how_long_it_may_take_where_that_is_long(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a micro-batch of two took four seconds, on a machine of one core."""
    from certify.models import runtime

    def slow(pipeline: Pipeline) -> None:
        pipeline.batch_seconds = 4.0

    monkeypatch.setattr(runtime, "_warm_up", slow)
    monkeypatch.setattr(runtime, "usable_cores", lambda: 1)
    Image.fromarray((PICTURE.transpose(1, 2, 0) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    ask = ("image", tmp_path / "a.png", "--bundle", bundle, "--sigmas=0.5", "--alpha=0.1", "--json")
    code, out, err = certify(*ask, "--samples=400")
    assert code == 0 and out.startswith("{"), err
    assert "each image: up to 400 draws, 0.5 a second here: about 13 minutes at most, less where" in err
    _, _, err = certify(*ask, "--samples=400", "--deadline-ms=4000")
    assert "each image" not in err


def test_the_start_costs_one_micro_batch_of_one_scale(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or two, where one is quick; and the plain classifier."""
    from certify.models import runtime
    from certify.models.engine_torch import TorchEngine

    seen: list[tuple[int, float]] = []
    forward = TorchEngine.logits

    def counted(engine: TorchEngine, noisy: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append((len(noisy), sigma))
        return forward(engine, noisy, sigma)

    monkeypatch.setattr(TorchEngine, "logits", counted)
    for patience, times in ((0.0, 1), (1e9, 2)):
        monkeypatch.setattr(runtime, "FIRST_SECONDS", patience)
        pipeline = load_pipeline(bundle, options_for(engine="torch", bundle=bundle))
        assert seen == [(2, 0.5)] * times
        assert pipeline.batch_seconds is not None and pipeline.batch_seconds > 0
        seen.clear()
