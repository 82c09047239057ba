"""`certify bundles pack`: folders that diffusers and timm saved become a bundle, and wrong ones are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("timm")

import safetensors.torch
import timm
import timm.models
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from certify.models.bundle import find_bundle, load_manifest, verify
from certify.models.runtime import load_pipeline
from tests.cli.test_cli import certify


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """denoiser/, scheduler/ and classifier/, each by its library's own function."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4,
        add_attention=False,
    )  # fmt: skip
    unet.save_pretrained(str(folder / "denoiser"), safe_serialization=True)
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(str(folder / "scheduler"))
    net = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,)}
    timm.models.save_for_hf(
        net, str(folder / "classifier"), model_config={"model_args": {"in_chans": 1}}, safe_serialization=True
    )
    return folder


@pytest.fixture
def parts(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "parts"))


def pack(parts: Path, out: Path, *arguments: str) -> tuple[int, str, str]:
    own = any(argument.startswith("--classifier") for argument in arguments)
    return certify(
        "bundles", "pack", "--denoiser", parts / "denoiser", "--scheduler", parts / "scheduler",
        *(() if own else ("--classifier", parts / "classifier")), "--out", out, *(arguments or ("--sigmas=0.25,0.5",)),
    )  # fmt: skip


def test_a_bundle_of_other_noise_certifies_l1(parts: Path, tmp_path: Path) -> None:
    code, _, err = pack(parts, tmp_path / "mine", "--sigmas=0.25,0.5", "--noise=laplace,uniform")
    assert code == 0, err
    manifest = load_manifest(tmp_path / "mine")
    assert (manifest.noise, manifest.norm, manifest.format) == (("laplace", "uniform"), "l1", 3)


def test_saved_folders_become_a_bundle_that_certifies(parts: Path, tmp_path: Path) -> None:
    code, out, err = pack(parts, tmp_path / "mine", "--sigmas=0.25,0.5", "--threshold=0.5,0.7")
    assert code == 0, err
    manifest = load_manifest(tmp_path / "mine")
    verify(tmp_path / "mine", manifest)
    assert manifest.digest in out
    assert (manifest.name, manifest.sigmas, manifest.thresholds) == ("mine", (0.25, 0.5), (0.5, 0.7))
    assert manifest.classes == tuple("0123456789") and manifest.input_shape == (1, 8, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "parts"]  # nothing else is left
    load_pipeline(tmp_path / "mine")
    digit = tmp_path / "digit.png"
    from tests import pictures

    digit.write_bytes(pictures.png())
    code, out, err = certify("image", digit, "--bundle", tmp_path / "mine", "--samples=960", "--json")
    assert code == 0 and json.loads(out)["bundle"]["digest"] == manifest.digest, err


def test_classes_are_what_the_classifiers_own_config_names(parts: Path, tmp_path: Path) -> None:
    """As transformers writes it, and with two names that are one, as in ImageNet."""
    path = parts / "classifier" / "config.json"
    names = dict(enumerate(["crane", *"bcdefghi", "crane"]))
    path.write_text(json.dumps({**json.loads(path.read_text()), "id2label": names}))
    code, _, err = pack(parts, tmp_path / "mine", "--sigmas=0.25")
    assert code == 0, err
    assert load_manifest(tmp_path / "mine").classes == ("crane (0)", *"bcdefghi", "crane (9)")


def test_images_of_another_size_are_tried_when_resized_and_those_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    from tests import pictures

    for number in range(3):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        (tmp_path / "data" / str(number) / "a.bmp").write_bytes(
            pictures.encoded(pictures.gray(number, (16, 11)), "BMP")
        )
    (tmp_path / "data" / "0" / "b.png").write_bytes(b"no image")
    options = ("--sigmas=0.25", f"--images={tmp_path / 'data'}")
    code, _, err = pack(find_bundle("digits"), tmp_path / "a", *options)
    assert code == 1 and "data, image 0: image: expected 8 x 8 pixels, got 16 x 11" in err
    code, out, err = pack(find_bundle("digits"), tmp_path / "a", *options, "--resize=center-crop")
    assert "not tried on image 1: " in err and ("clean accuracy on 3 images" in out or "denoise" in err)


def test_a_good_bundle_passes_the_self_test(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    code, out, err = pack(find_bundle("digits"), tmp_path / "again", "--sigmas=0.12,0.25,0.5", "--images=digits")
    assert code == 0, err
    assert "classifier/config.json)" in out  # it has no classifier.json
    rows = [line.split("|")[1:] for line in out.splitlines() if line.startswith("| 0.")]
    assert [float(row[0]) for row in rows] == [0.12, 0.25, 0.5]
    assert all(float(agree) > 0.8 and float(denoised) < float(noisy) for _, agree, _, noisy, denoised, *_ in rows[:2])
    again, shipped = load_manifest(tmp_path / "again"), load_manifest(find_bundle("digits"))
    assert [again.files[name] for name in shipped.sources] == [shipped.files[name] for name in shipped.sources]
    assert again.has_graph and again.timesteps == shipped.timesteps


def test_a_wrong_prediction_type_is_found_and_the_right_one_named(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    parts = Path(shutil.copytree(find_bundle("digits"), tmp_path / "parts"))
    for told in ("epsilon", "sample"):
        change(parts / "scheduler/scheduler_config.json", prediction_type=told)
        code, _, err = pack(parts, tmp_path / told, "--sigmas=0.12,0.5", "--images=digits")
        assert code == 1 and f"prediction_type: expected 'v_prediction', got '{told}'" in err
        assert str(parts / "scheduler") in err and not (tmp_path / told).exists()


def test_a_network_that_does_not_denoise_is_found(parts: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    change(parts / "scheduler/scheduler_config.json", prediction_type="sample")
    code, _, err = pack(parts, tmp_path / "out", "--sigmas=0.05,0.1", "--images=digits")
    assert code == 1 and ("denoises images in [-1, 1]" in err or "prediction_type" in err)


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def reweigh(path: Path, **values: Any) -> None:
    """Tensors that are changed, added, or with None taken away."""
    weights = {**safetensors.torch.load_file(path), **values}
    safetensors.torch.save_file({name: value for name, value in weights.items() if value is not None}, path)


WEIGHTS = "diffusion_pytorch_model.safetensors"
Spoil = Callable[[Path], object]
WRONG: dict[str, tuple[Spoil, str]] = {
    "no denoiser": (lambda p: shutil.rmtree(p / "denoiser"), "denoiser/config.json: no such file; expected"),
    "another network": (
        lambda p: change(p / "denoiser/config.json", _class_name="UNet2DConditionModel"),
        "denoiser/config.json: _class_name: expected 'UNet2DModel', got 'UNet2DConditionModel'",
    ),
    "class-conditional": (
        lambda p: change(p / "denoiser/config.json", num_class_embeds=10),
        "denoiser/config.json: num_class_embeds: expected none",
    ),
    "a pickle": (
        lambda p: (p / f"denoiser/{WEIGHTS}").rename(p / "denoiser/diffusion_pytorch_model.bin"),
        "(there: diffusion_pytorch_model.bin); expected safetensors",
    ),
    "channels": (
        lambda p: change(p / "denoiser/config.json", out_channels=3),
        "denoiser/config.json: out_channels: expected 1, or 2 with a learned variance, got 3",
    ),
    "latent": (
        lambda p: change(p / "denoiser/config.json", in_channels=8, out_channels=8),
        "denoiser/config.json: in_channels: expected 1 (gray) or 3 (RGB), or one of them times a square, whose side is",
    ),
    "no size": (
        lambda p: change(p / "denoiser/config.json", sample_size=None),
        "denoiser/config.json: sample_size: expected the images' height and width, at most 4096, got None",
    ),
    "odd size": (
        lambda p: change(p / "denoiser/config.json", sample_size=9),
        "denoiser/config.json: sample_size: expected multiples of 2",
    ),
    "other weights": (
        lambda p: change(p / "denoiser/config.json", block_out_channels=[16, 16]),
        "denoiser",
    ),
    "cut weights": (
        lambda p: truncate(p / f"denoiser/{WEIGHTS}"),
        f"denoiser/{WEIGHTS}: expected a whole safetensors file",
    ),
    "no bytes": (
        lambda p: (p / f"denoiser/{WEIGHTS}").write_bytes(b""),
        f"denoiser/{WEIGHTS}: expected a whole safetensors file",
    ),
    "a weight that is not there": (
        lambda p: reweigh(p / f"denoiser/{WEIGHTS}", **{"conv_in.weight": None}),
        "denoiser/diffusion_pytorch_model.safetensors: expected all weights of the network in config.json, got no "
        "weights for conv_in.weight (1)",
    ),
    "a weight of another network": (
        lambda p: reweigh(p / f"denoiser/{WEIGHTS}", other=torch.ones(1)),
        "weights that are not of it: other (1)",
    ),
    "no number": (
        lambda p: reweigh(p / f"denoiser/{WEIGHTS}", **{"conv_in.bias": torch.full((8,), torch.nan)}),
        "got values that are not finite in conv_in.bias (1)",
    ),
    "no widths": (
        lambda p: change(p / "denoiser/config.json", block_out_channels=None),
        "denoiser/config.json: block_out_channels: expected a list of widths, got None",
    ),
    "an enormous size": (
        lambda p: change(p / "denoiser/config.json", sample_size=2**30),
        "denoiser/config.json: sample_size: expected the images' height and width, at most 4096",
    ),
    "a table of timesteps": (
        lambda p: change(p / "denoiser/config.json", time_embedding_type="learned"),
        "denoiser/config.json: time_embedding_type: expected positional or fourier",
    ),
    "another reader": (
        lambda p: change(p / "denoiser/config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "denoiser: expected config.json and weights of one UNet2DModel",
    ),
    "cut weights of a classifier": (
        lambda p: truncate(p / "classifier/model.safetensors"),
        "classifier/model.safetensors: expected a whole safetensors file",
    ),
    "no settings": (
        lambda p: change(p / "classifier/config.json", pretrained_cfg=[1]),
        "classifier/config.json: pretrained_cfg: expected an object, got [1]",
    ),
    "one mean": (
        lambda p: change(p / "classifier/config.json", pretrained_cfg={"input_size": [1, 8, 8], "mean": 0.5, "std": 0}),
        "pretrained_cfg.std: expected",
    ),
    "a head for other classes": (
        lambda p: change(p / "classifier/config.json", num_classes=7, model_args={"in_chans": 1, "num_classes": 10}),
        "classifier/config.json: num_classes: expected 10, as model_args say, got 7",
    ),
    "no scheduler": (
        lambda p: (p / "scheduler/scheduler_config.json").unlink(),
        "scheduler/scheduler_config.json: no such file",
    ),
    "flow matching": (
        lambda p: (p / "scheduler/scheduler_config.json").write_text(
            json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"})
        ),
        "scheduler/scheduler_config.json: _class_name: expected a variance-preserving scheduler",
    ),
    "prediction type": (
        lambda p: change(p / "scheduler/scheduler_config.json", prediction_type="flow_prediction"),
        "prediction_type: expected one of epsilon, v_prediction, sample, got 'flow_prediction'",
    ),
    "betas": (
        lambda p: change(p / "scheduler/scheduler_config.json", beta_start=-1.0),
        "scheduler/scheduler_config.json: expected a schedule of betas",
    ),
    "not json": (lambda p: (p / "classifier/config.json").write_text("{"), "classifier/config.json: expected JSON"),
    "no architecture": (
        lambda p: change(p / "classifier/config.json", architecture=None),
        "classifier/config.json: architecture: expected timm's name",
    ),
    "unknown architecture": (lambda p: change(p / "classifier/config.json", architecture="resnet17"), "resnet17"),
    "no weights": (
        lambda p: (p / "classifier/model.safetensors").unlink(),
        "classifier/model.safetensors: no such file; expected timm.models.save_for_hf",
    ),
    "colours": (
        lambda p: change(p / "classifier/config.json", pretrained_cfg={"input_size": [3, 8, 8]}),
        "pretrained_cfg.input_size: expected [1, H, W], as the pictures have channels, got [3, 8, 8]",
    ),
    "std": (
        lambda p: change(
            p / "classifier/config.json", pretrained_cfg={"input_size": [1, 8, 8], "mean": [0.5], "std": [0.0]}
        ),
        "pretrained_cfg.std: expected values > 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_by_file_and_field_and_nothing_is_written(
    name: str, parts: Path, tmp_path: Path
) -> None:
    spoil, message = WRONG[name]
    spoil(parts)
    code, _, err = pack(parts, tmp_path / "out")
    assert code == 1 and message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigmas=0.5,0.25"], "sigmas: expected strictly ascending values"),
        (["--sigmas=0.25,x"], "sigmas: expected numbers"),
        (["--sigmas=0.25,5000"], "sigmas: expected values in the scheduler's range"),
        (["--sigmas=0.25", "--threshold=0.4"], "thresholds: expected 1 values in [0.5, 1)"),
        (["--sigmas=0.25", "--classes=a,b"], "classes: expected 10 names"),
        (["--sigmas=0.25", "--classes=@nowhere.txt"], "classes: expected a file of names: nowhere.txt: cannot be read"),
        (["--sigmas=0.25", "--classes=imagenet"], "classes: expected 10 names, as"),
        (["--sigmas=0.25", "--final=guess"], "final: expected plurality or threshold"),
        (["--sigmas=0.25", "--dtype=float64"], "dtype: expected one of"),
        (["--sigmas=0.25", "--classifier=resnet17"], "expected a folder in timm's hub layout or a timm name"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused(arguments: list[str], message: str, parts: Path, tmp_path: Path) -> None:
    code, _, err = pack(parts, tmp_path / "out", *arguments)
    assert code == 1 and message in err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(parts: Path) -> None:
    code, _, err = pack(parts, parts)
    assert code == 1 and "empty or not there yet" in err
    assert DDPMScheduler.from_pretrained(str(parts / "scheduler"))
