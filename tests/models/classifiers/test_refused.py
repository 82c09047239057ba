"""What cannot be a classifier is refused in words, before a bundle is written; nothing in a file is ever run."""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from certify.models.classifiers import Told, take
from certify.models.errors import BundleError

from .conftest import GOLDEN, SHAPE
from .test_golden import NORMALISED, RESNET, packed


def refused(classifier: Path | str, tmp_path: Path, **told: Any) -> str:
    with pytest.raises(BundleError) as info:
        take(str(classifier), tmp_path / "out", SHAPE, Told(**told))
    return str(info.value)


ONNX = {
    "unknown_op": "No conversion rule found for operations: com.example.Fancy",
    "rank2": "expected a picture, (N, C, H, W) or (N, H, W, C)",
    "four_channels": "f32[?,4,32,32]: expected 3 channels, as the pictures have",
    "map_output": "outputs: expected one with a float for each of at least 2 classes",
    "random": "the same at every call, got RandomUniform",
    "truncated": "expected a whole ONNX model, got a file that is cut short",
    "external": "expected its weights inside, got external data in 'weights_that_are_not_here.bin'",
}


@pytest.mark.parametrize("name", ONNX)
def test_an_onnx_file_that_is_no_classifier(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = GOLDEN / f"onnx/refuse_{name}.onnx"
    message = refused(path, tmp_path, **NORMALISED)
    assert str(path) in message and ONNX[name] in message


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("net.onnx", "openvino"),
        ("net.pth", "timm"),
        ("hub/pytorch_model.bin", "timm"),
        ("vit/model.safetensors", "transformers"),
    ],
)
def test_a_pointer_that_git_lfs_left_in_a_files_place(name: str, needs: str, tmp_path: Path) -> None:
    pytest.importorskip(needs)
    path = tmp_path / name
    for folder, there in (("hub", "timm/hub_bin"), ("vit", "transformers_vit")):
        shutil.copytree(GOLDEN / there, tmp_path / folder)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 45000000\n")
    told = {"architecture": "resnet18"} if name.endswith(".pth") else {}
    message = refused(path if path.parent == tmp_path else path.parent, tmp_path, **told)
    assert str(path) in message and "git lfs pull" in message


def test_external_data_are_refused_also_where_the_file_is_there(tmp_path: Path) -> None:
    """OpenVINO would read it: bytes that no digest covers."""
    path = Path(shutil.copy(GOLDEN / "onnx/refuse_external.onnx", tmp_path))
    (tmp_path / "weights_that_are_not_here.bin").write_bytes(np.zeros(2000, np.float32).tobytes())
    assert "expected its weights inside" in refused(path, tmp_path)


def test_logits_that_depend_on_the_rest_of_the_batch(denoiser: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(BundleError, match=r"refuse_batch_mean.*depend on others of its batch"):
        packed(denoiser, GOLDEN / "onnx/refuse_batch_mean.onnx", tmp_path / "out", NORMALISED)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("two_outputs", {}, "--output or --classes: features (16 values), logits (10 values)"),
        ("two_outputs", {"output": "x"}, "--output: expected one of"),
        ("nchw_float", {"layout": "nhwc"}, "expected 3 channels, as the pictures have"),
        ("nchw_float", {"input_size": (64, 64)}, "--input-size: expected 32x32, as"),
        ("nchw_float", {"mean": (0.5, 0.5)}, "--mean: expected 3 numbers, one for each channel, got (0.5, 0.5)"),
        ("nchw_float", {"std": (0.0,)}, "--std: expected values > 0"),
        ("nchw_float", {"architecture": "resnet18"}, "--architecture: expected none, since"),
        ("nhwc_uint8", {"scale": 1.0}, "--scale: expected 255 or none, since"),
        ("nhwc_uint8", {"mean": (0.5,)}, "mean, std: expected none: the network takes whole numbers"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_an_onnx_file(name: str, told: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    assert message in refused(GOLDEN / f"onnx/{name}.onnx", tmp_path, **told)


def test_of_several_outputs_the_one_with_as_many_values_as_classes_is_taken(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    taken = take(str(GOLDEN / "onnx/two_outputs.onnx"), tmp_path / "out", SHAPE, Told(**NORMALISED), classes=10)
    assert (taken.output, taken.outputs) == ("logits", 10)


@pytest.mark.parametrize("told", [{}, {"architecture": "resnet10t"}])
def test_a_pickle_that_would_run_code_does_not(
    told: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor under other names: in a hub folder, and in one of transformers'."""
    code = GOLDEN / "torchscript/refuse_code.pth"
    message = refused(code, tmp_path, **told)
    assert "got a pickle that needs more, and could run code" in message and "torch.save(" in message
    for folder in ("timm/hub_bin", "transformers_vit"):
        spoilt = Path(shutil.copytree(GOLDEN / folder, tmp_path / folder))
        (spoilt / "model.safetensors").unlink(missing_ok=True)
        shutil.copy(code, spoilt / "pytorch_model.bin")
        refused(spoilt, tmp_path)
        shutil.rmtree(spoilt)
    assert "this pickle ran code" not in "".join(capfd.readouterr())


def test_torchscript_is_told_the_way_out(tmp_path: Path) -> None:
    message = refused(GOLDEN / "torchscript/traced.pt", tmp_path, architecture="resnet10t")
    assert "got a TorchScript program" in message and "torch.onnx.export" in message


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"architecture": None}, "expected --architecture: timm's name of it (resnet50), or torchvision:NAME"),
        ({"architecture": "resnet10"}, "--architecture: expected timm's name of it, as resnet10t"),
        ({"architecture": "resnet18", "model_args": {}}, "expected the weights of resnet18, got missing: "),
        ({"model_args": {"x": 1}}, "--model-args: expected arguments of timm's resnet10t"),
        ({"architecture": "torchvision:resnet1"}, "--architecture: expected torchvision:NAME of an image classifier"),
        ({"architecture": "torchvision:googlenet"}, "--model-args: expected transform_input for googlenet"),
        ({"output": "logits"}, "--output: expected none, since these are of ONNX files"),
        ({"interpolation": "lanczos"}, "--interpolation: expected bilinear or bicubic or nearest, got 'lanczos'"),
    ],
)  # fmt: skip
def test_what_is_said_of_weights_and_is_wrong(told: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as info:
        take(str(GOLDEN / "timm/module.pth"), tmp_path / "out", SHAPE, Told(**{**RESNET, **told}))
    assert message in str(info.value)


def test_weights_of_no_network(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    assert "expected a state dict (names and tensors)" in refused(tmp_path / "a.pth", tmp_path, architecture="resnet18")
    (tmp_path / "a.safetensors").write_bytes(b"no")
    assert "a file that cannot be read" in refused(tmp_path / "a.safetensors", tmp_path, architecture="resnet18")
    (tmp_path / "a.h5").write_bytes(b"no")
    assert "networks of other libraries can be exported to ONNX" in refused(tmp_path / "a.h5", tmp_path)


def test_weights_that_would_be_taken_for_others(tmp_path: Path) -> None:
    """Several networks in a file, numbers that are codes, an infinite one that no logit shows."""
    weights = torch.load(GOLDEN / "timm/module.pth", weights_only=True)["state_dict"]
    plain = {key.removeprefix("module."): value.clone() for key, value in weights.items()}
    others = {key: value + 1 for key, value in plain.items()}
    two = {**{f"student.{key}": v for key, v in others.items()}, **{f"teacher.{key}": v for key, v in plain.items()}}
    wrong = {
        "expected the weights of resnet10t once, got them at student., teacher.: keep one of them": two,
        "expected this weight once, got another as": {**{f"module.{key}": v for key, v in others.items()}, **plain},
        "fc.weight: expected a float tensor, got int8": {**plain, "fc.weight": plain["fc.weight"].to(torch.int8)},
        "expected finite weights, got others in bn1.running_var": {
            **plain, "bn1.running_var": plain["bn1.running_var"] * torch.inf,
        },
    }  # fmt: skip
    for message, state in wrong.items():
        torch.save({"state_dict": state}, tmp_path / "a.pth")
        assert message in refused(tmp_path / "a.pth", tmp_path, **RESNET)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize("folder", ["timm/hub_bin", "transformers_vit"])
def test_a_folder_whose_weights_are_codes(folder: str, tmp_path: Path) -> None:
    """Its library would load them as numbers."""
    if folder.startswith("transformers"):
        pytest.importorskip("transformers")
    spoilt = Path(shutil.copytree(GOLDEN / folder, tmp_path / "spoilt"))
    if (pickled := spoilt / "pytorch_model.bin").exists():
        state = torch.load(pickled, weights_only=True)
    else:
        state = load_file(spoilt / "model.safetensors")
    name = next(key for key in state if key.endswith("bias"))
    state = {key: value.clone() for key, value in state.items()}
    save_file({**state, name: state[name].to(torch.int8)}, spoilt / "model.safetensors", {"format": "pt"})
    assert f"model.safetensors: {name}: expected a float tensor, got I8" in refused(spoilt, tmp_path)


def test_a_file_of_another_kind_under_the_name_of_weights(tmp_path: Path) -> None:
    """Nobody is told to load as a pickle, with all that it would run, what is none."""
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "a.pt2")
    shutil.copy(tmp_path / "a.pt2", tmp_path / "a.pt")
    for name, content, message in (
        ("a.pt2", None, "got a program of torch.export; either write its weights"),
        ("a.pt", None, "got a program of torch.export; either write its weights"),
        ("b.pth", gzip.compress(b"weights"), "got another kind of file"),
        ("c.pth", b"", "got no bytes"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        message_of_it = refused(tmp_path / name, tmp_path, architecture="resnet18")
        assert message in message_of_it and "weights_only=False" not in message_of_it


def test_a_folder_of_transformers_without_all_of_its_parts(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = Path(shutil.copytree(GOLDEN / "transformers_vit", tmp_path / "vit"))
    (folder / "preprocessor_config.json").rename(tmp_path / "kept.json")
    assert f"{folder}/preprocessor_config.json: no such file" in refused(folder, tmp_path)
    (tmp_path / "kept.json").rename(folder / "preprocessor_config.json")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "expected weights for all of ViTForImageClassification, got none for vit." in refused(folder, tmp_path)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nobody's"}))
    assert "AutoModelForImageClassification reads without code from the folder" in refused(folder, tmp_path)


def test_a_name_whose_weights_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("resnet10t.c3_in1k", "timm/nothing.of_this_name"):
        message = refused(name, tmp_path)
        assert f"classifier: {name}: its weights cannot be had" in message and "hf download" in message
