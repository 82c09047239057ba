"""models.openai: OpenAI's own networks and formula, against what their repositories computed (tests/golden/openai)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("timm")
pytest.importorskip("openvino")

import timm
import timm.models
import torch
from numpy.typing import NDArray

from certify.models.bundle import load_manifest
from certify.models.denoiser import Denoiser
from certify.models.graph import load_openvino, read_graph
from certify.models.openai.convert import convert
from certify.models.schedule import Schedule, signal_and_noise
from tests.cli.test_cli import certify

GOLDEN = Path(__file__).parents[2] / "golden" / "openai"
CASES: dict[str, Any] = json.loads((GOLDEN / "cases.json").read_text())["cases"]
# float32, on any CPU.
OUT, DENOISED = 3e-5, 1e-4


def flags_of(name: str, **change: object) -> dict[str, Any]:
    return {**json.loads((GOLDEN / f"{name}.json").read_text()), **change}


def converted(name: str, folder: Path) -> tuple[Path, Mapping[str, Any], Mapping[str, NDArray[np.float32]]]:
    """(what convert wrote, the case, its arrays)."""
    case = CASES[name]
    flags = folder / f"{name}.json"
    flags.write_text(json.dumps(flags_of(case["flags"].removesuffix(".json"), **case["change"])))
    code, _, err = certify(
        "bundles", "convert", "openai", GOLDEN / case["checkpoint"], "--flags", flags, "--out", folder / name
    )
    assert code == 0, err
    return folder / name, case, dict(np.load(GOLDEN / f"{name}.npz"))


@pytest.mark.parametrize("name", CASES)
def test_the_network_and_the_denoised_pixels_are_the_repositorys(name: str, tmp_path: Path) -> None:
    folder, case, arrays = converted(name, tmp_path)
    denoiser = Denoiser.from_folder(folder).eval()
    with torch.inference_mode():
        x, t, noisy = (torch.from_numpy(arrays[key]) for key in ("x", "t", "noisy"))
        out = denoiser.unet(x, t, return_dict=False)[0].numpy()
        denoised = denoiser.denoise(noisy, case["sigma"]).numpy()
    assert np.abs(out - arrays["out"]).max() < OUT < np.abs(arrays["out"]).max() / 1000
    assert np.abs(denoised - arrays["denoised"]).max() < DENOISED
    assert denoiser.schedule.timestep(case["sigma"]) == pytest.approx(case["network_timestep"], abs=1e-9)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "improved_cifar" else pytest.mark.slow) for name in CASES],
)
def test_a_bundles_graph_denoises_the_same(name: str, tmp_path: Path) -> None:
    """Through pack, and as a CPU runs it."""
    folder, case, arrays = converted(name, tmp_path)
    net = timm.create_model("test_resnet", num_classes=10)
    net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    timm.models.save_for_hf(net, str(tmp_path / "classifier"), safe_serialization=True)
    code, out, err = certify(
        "bundles", "pack", "--denoiser", folder, "--classifier", tmp_path / "classifier", f"--sigmas={case['sigma']}",
        "--out", tmp_path / "bundle", "--micro-batch=2",
    )  # fmt: skip
    assert code == 0 and "input 3x32x32" in out, err
    manifest = load_manifest(tmp_path / "bundle")
    source = manifest.provenance["sources"]["denoiser"]
    assert (source["kind"], source["file"]) == ("openai", case["checkpoint"]) and len(source["sha256"]) == 64
    noisy, sigma = arrays["noisy"], case["sigma"]
    constants = [np.full(len(noisy), value, np.float32) for value in (*manifest.timesteps, *signal_and_noise(sigma))]
    openvino = load_openvino()
    exact = {"INFERENCE_PRECISION_HINT": openvino.Type.f32}
    compiled = openvino.Core().compile_model(read_graph(tmp_path / "bundle", manifest), "CPU", exact)
    answer = compiled([noisy, *constants])
    assert np.abs(answer[compiled.output("denoised")] - arrays["denoised"]).max() < DENOISED


REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "class-conditional": ("guided_class_cond", {}, "class_cond: expected False, since a class-conditional"),
    "heads": ("improved_heads_vary", {}, "num_heads: expected 1, or attention at levels of one width, got 4 heads"),
    "heads up": ("improved_cifar", {"num_heads_upsample": 2}, "num_heads_upsample: expected 4, as num_heads"),
    "odd heads": ("improved_cifar", {"num_heads": 3}, "num_heads: expected a divisor of the levels' widths 64, got 3"),
    "odd head width": ("guided_adm", {"num_head_channels": 48}, "num_head_channels: expected a divisor of"),
    "half": ("guided_adm", {"channel_mult": "0.5,1,2,2"}, "channel_mult: expected one that begins with 1, got 0.5"),
    "512": ("guided_adm", {"channel_mult": "", "image_size": 512}, "channel_mult: expected one that begins with 1"),
    "no multiples": ("guided_adm", {"channel_mult": ""}, "channel_mult: expected it for an image_size of 32, since"),
    "groups": ("guided_adm", {"num_channels": 48}, "num_channels: expected levels of a multiple of 32 channels"),
    "odd size": ("guided_adm", {"image_size": 36}, "image_size: expected a multiple of 8, for 4 levels"),
    "unknown": ("guided_adm", {"resblock_updwn": True}, "resblock_updwn: expected a flag of guided-diffusion's"),
    "not improved's": ("improved_cifar", {"large_size": 256}, "large_size: expected a flag of improved-diffusion's"),
    "a word": ("guided_adm", {"num_res_blocks": "two"}, "num_res_blocks: expected a whole number, got 'two'"),
    "no truth": ("guided_adm", {"learn_sigma": "maybe"}, "learn_sigma: expected True or False, got 'maybe'"),
    "no pixels": ("guided_adm", {"attention_resolutions": "0"}, "attention_resolutions: expected pixels >= 1"),
    "schedule": ("guided_adm", {"noise_schedule": "sqrt"}, "noise_schedule: expected linear or cosine, got 'sqrt'"),
    "no number": ("guided_adm", {"attention_resolutions": "nan"}, "attention_resolutions: expected numbers with comma"),
    "half a pixel": ("guided_adm", {"attention_resolutions": "8.5"}, "attention_resolutions: expected pixels >= 1"),
    "endless": ("guided_adm", {"channel_mult": "1,inf"}, "channel_mult: expected numbers with commas between"),
    "too deep": ("guided_adm", {"num_res_blocks": 10**8}, "num_res_blocks: expected 1 to 64, got 100000000"),
    "too many steps": ("guided_adm", {"diffusion_steps": 10**11}, "diffusion_steps: expected 1 to 1048576, got"),
    "few steps": ("guided_adm", {"diffusion_steps": 10}, "diffusion_steps: expected more steps for a linear schedule"),
    "variance": ("guided_adm", {"learn_sigma": False}, "out.2.weight: expected a shape of [3, 32, 3, 3], by num_"),
    "scale": ("guided_adm", {"use_scale_shift_norm": False}, "emb_layers.1.weight: expected a shape of [32, 128], by"),
    "attention": ("guided_adm", {"attention_resolutions": "4"}, "expected output_blocks.5.1.in_layers.0.weight, by"),
    "more attention": ("guided_adm", {"attention_resolutions": "16,8,4"}, "expected input_blocks.4.1.qkv.weight, by"),
    "depth": ("guided_adm", {"num_res_blocks": 3}, "input_blocks.7.0.in_layers.2.weight: expected a shape of [32, 3"),
    "shallower": ("guided_fixed_sigma", {"channel_mult": "1"}, "guided_fixed_sigma.pt: "),
    "updown": ("guided_adm", {"resblock_updown": False}, "expected input_blocks.3.0.op.weight, by num_channels"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_flag_and_tensor(name: str, tmp_path: Path) -> None:
    case, change, message = REFUSED[name]
    flags, checkpoint = tmp_path / "flags.json", GOLDEN / f"{case}.pt"
    flags.write_text(json.dumps(flags_of(case, **change)))
    code, _, err = certify("bundles", "convert", "openai", checkpoint, "--flags", flags, "--out", tmp_path / "out")
    assert code == 1 and message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint", "expected a state dict that torch.load(weights_only=True) reads, got: "),
        (None, "expected a state dict that torch.load(weights_only=True) reads, got: "),
        (b"\x80\x02junk", "expected a state dict that torch.load(weights_only=True) reads, got: "),
        ({"time_embed.0.weight": torch.ones(128, 32).to_sparse()}, "time_embed.0.weight: expected a plain tensor, got"),
        ({"time_embed.0.weight": torch.ones(128, 32, device="meta")}, "time_embed.0.weight: expected a plain tensor"),
        ([1.0], "expected a state dict, names and tensors"),
        ({"label_emb.weight": torch.ones(1)}, "label_emb.weight: expected no such tensor, by "),
        ({"label_emb.weight": torch.ones(1)}, ": a class-conditional network, which needs the label"),
        ({"time_embed.0.weight": None}, "time_embed.0.weight: expected finite values"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_none_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        state = dict(torch.load(GOLDEN / "guided_fixed_sigma.pt", weights_only=True))
        ((name, value),) = content.items()
        state[name] = torch.full_like(state["time_embed.0.weight"], torch.nan) if value is None else value
        torch.save(state, path)
    elif content is not None:
        torch.save(content, path)
    flags = GOLDEN / "guided_fixed_sigma.json"
    code, _, err = certify("bundles", "convert", "openai", path, "--flags", flags, "--out", tmp_path / "out")
    assert code == 1 and message in err


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Loud:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return print, ("this pickle ran code",)

    torch.save({"time_embed.0.weight": Loud()}, tmp_path / "loud.pt")
    flags = GOLDEN / "guided_fixed_sigma.json"
    code, _, err = certify(
        "bundles", "convert", "openai", tmp_path / "loud.pt", "--flags", flags, "--out", tmp_path / "a"
    )
    assert code == 1 and "weights_only" in err and "this pickle ran code" not in capfd.readouterr().out


def test_an_older_checkpoint_that_cannot_be_mapped_is_read(tmp_path: Path) -> None:
    state = torch.load(GOLDEN / "guided_fixed_sigma.pt", weights_only=True)
    torch.save(
        {name: value.half() for name, value in state.items()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    convert(tmp_path / "old.pt", tmp_path / "out", flags=str(GOLDEN / "guided_fixed_sigma.json"))
    weight = Denoiser.from_folder(tmp_path / "out").unet.conv_in.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, state["input_blocks.0.0.weight"].half().float())


def test_flags_are_read_as_the_scripts_take_them(tmp_path: Path) -> None:
    """The README's own words for CIFAR-10, with the file's width; and what is left out has the scripts' default."""
    words = (
        "--image_size 32 --num_channels 32 --num_res_blocks 3 --learn_sigma True --dropout=0.3 --diffusion_steps 4000 "
        "--noise_schedule cosine --lr 1e-4 --batch_size 128"
    )
    convert(GOLDEN / "improved_cifar.pt", tmp_path / "text", flags=words, family="improved")
    convert(GOLDEN / "improved_cifar.pt", tmp_path / "file", flags=str(GOLDEN / "improved_cifar.json"))
    for name in (
        "denoiser/config.json",
        "denoiser/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ):
        assert (tmp_path / "text" / name).read_bytes() == (tmp_path / "file" / name).read_bytes()
    code, _, err = certify(
        "bundles", "convert", "openai", GOLDEN / "improved_cifar.pt", "--flags", words, "--out", tmp_path / "asked"
    )
    assert code == 1 and "family: expected improved or guided (--family)" in err and "rescale_timesteps is True" in err


def test_a_scale_of_timesteps_is_the_networks_and_the_schedule_keeps_its_range(tmp_path: Path) -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    config = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "trained_betas": betas.tolist()}
    read = []
    for scale in ({}, {"timestep_scale": 0.25}):
        (tmp_path / "scheduler_config.json").write_text(json.dumps({**config, **scale}))
        read.append(Schedule.from_folder(tmp_path))
    plain, scaled = read
    sigmas = np.array([0.02, 0.25, 2.0])
    assert np.allclose(scaled.timestep(sigmas), 0.25 * plain.timestep(sigmas), rtol=1e-12)
    assert np.allclose(scaled.sigma(scaled.timestep(sigmas)), sigmas, rtol=1e-9)
    assert scaled.sigma_range == plain.sigma_range
    exact = np.log(np.sqrt(1 / np.cumprod(1 - betas) - 1) / 2)  # float64 all the way
    assert np.allclose(plain.timestep(sigmas), np.interp(np.log(sigmas), exact, np.arange(1000)), atol=1e-10, rtol=0)
    for wrong in (0, -1.0, "0.25", float("inf"), True):
        with pytest.raises(ValueError, match="timestep_scale: expected a number > 0"):
            Schedule(np.array([0.9, 0.5]), "epsilon", wrong)  # type: ignore[arg-type]


def test_what_convert_wrote_is_not_written_over(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "guided_fixed_sigma.json", tmp_path)
    code, _, err = certify(
        "bundles", "convert", "openai", GOLDEN / "guided_fixed_sigma.pt", "--flags", GOLDEN / "guided_fixed_sigma.json",
        "--out", tmp_path,
    )  # fmt: skip
    assert code == 1 and "empty or not there yet" in err
