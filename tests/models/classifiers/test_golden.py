"""Every form of a classifier gives its own library's logits: by torch, by OpenVINO, and through a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from certify.models.bundle import find_bundle, load_manifest
from certify.models.classifier import Classifier
from certify.models.classifiers import Told, take
from certify.models.classifiers.onnx import behind
from certify.models.errors import BundleError
from certify.models.graph import load_openvino
from certify.models.pack import pack
from certify.models.preprocessing import CLASSIFIER
from certify.models.runtime import RuntimeOptions, load_pipeline
from certify.models.upgrade import upgrade

from .conftest import GOLDEN, NAMES, PICTURES, SHAPE, expected, pictures, softmax

TOLERANCE = 1e-4  # 1e-6 was seen
NORMALISED = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}
# What no .pth says of the network in timm/.
RESNET: dict[str, Any] = {
    "architecture": "resnet10t",
    "model_args": {"channels": [8, 12, 16, 16], "stem_width": 8},
    "input_size": (64, 64),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def assert_logits(folder: Path, case: str) -> None:
    """Of a bundle's classifier/ that torch runs."""
    network = Classifier.from_folder(folder).eval()
    for name, answer in PICTURES:
        with torch.inference_mode():
            logits = network(torch.from_numpy(pictures(name))).numpy()
        np.testing.assert_allclose(logits, expected(case, answer), rtol=0, atol=TOLERANCE)


def test_a_hub_folder_with_either_kind_of_weights(tmp_path: Path) -> None:
    taken = take(str(GOLDEN / "timm/hub_bin"), tmp_path / "a", SHAPE, Told())
    assert (taken.labels, taken.outputs, taken.preprocessing.interpolation) == (NAMES, 10, "bicubic")
    assert_logits(tmp_path / "a", "timm")
    (tmp_path / "a" / CLASSIFIER).unlink()  # what is left is a hub folder with safetensors
    take(str(tmp_path / "a"), tmp_path / "b", SHAPE, Told())
    assert_logits(tmp_path / "b", "timm")


@pytest.mark.parametrize("name", ["module.pth", "ema.pth"])
def test_weights_out_of_a_training_script(name: str, tmp_path: Path) -> None:
    """module.pth: every name begins with `module.`. ema.pth: state_dict is zeros, state_dict_ema is the network."""
    take(str(GOLDEN / "timm" / name), tmp_path / "a", SHAPE, Told(**RESNET))
    assert_logits(tmp_path / "a", "timm")


def test_weights_of_a_module_that_holds_the_network_among_others(tmp_path: Path) -> None:
    """As Lightning saves it; and safetensors, compiled."""
    import safetensors.torch

    weights = torch.load(GOLDEN / "timm/module.pth", weights_only=True)["state_dict"]
    plain = {key.removeprefix("module."): value.clone() for key, value in weights.items()}
    held = {f"model.{key}": value for key, value in plain.items()}
    torch.save({"state_dict": {**held, "criterion.weight": torch.ones(10)}, "epoch": 1}, tmp_path / "last.ckpt")
    compiled = {f"_orig_mod.module.{key}": value for key, value in plain.items()}
    safetensors.torch.save_file(compiled, tmp_path / "a.safetensors")
    for name in ("last.ckpt", "a.safetensors"):
        take(str(tmp_path / name), tmp_path / f"out-{name}", SHAPE, Told(**RESNET))
        assert_logits(tmp_path / f"out-{name}", "timm")


def test_averaged_weights_come_first_whatever_holds_them(tmp_path: Path) -> None:
    """In a dictionary of their own, or under a name before every other's; a file may end in capitals."""
    weights = torch.load(GOLDEN / "timm/module.pth", weights_only=True)["state_dict"]
    plain = {key.removeprefix("module."): value.clone() for key, value in weights.items()}
    zeros = {key: torch.zeros_like(value) for key, value in plain.items()}
    lightning = {f"model.{key}": value for key, value in zeros.items()}
    held = {f"ema_model.module.{key}": value for key, value in plain.items()}
    torch.save({"model": zeros, "ema": plain}, tmp_path / "a.PTH")
    torch.save({"model": plain, "ema": {"decay": 0.999}}, tmp_path / "b.pth")
    torch.save({"state_dict": {**lightning, **held}}, tmp_path / "c.ckpt")
    torch.save({f"model._orig_mod.{key}": value for key, value in plain.items()}, tmp_path / "d.pth")
    for path in sorted(tmp_path.iterdir()):
        take(str(path), tmp_path / f"out-{path.name}", SHAPE, Told(**RESNET))
        assert_logits(tmp_path / f"out-{path.name}", "timm")


@pytest.mark.parametrize("case", ["transformers_vit", "transformers_convnext"])
def test_a_folder_of_transformers(case: str, tmp_path: Path) -> None:
    """ConvNeXt's processor would resize to 73 and crop: the whole picture is resized to what the network takes."""
    pytest.importorskip("transformers")
    taken = take(str(GOLDEN / case), tmp_path / "a", SHAPE, Told())
    assert (taken.labels, taken.outputs, taken.preprocessing.input_size) == (NAMES, 10, (3, 64, 64))
    assert_logits(tmp_path / "a", case)


ONNX: dict[str, dict[str, Any]] = {
    "nchw_float": NORMALISED,
    "nchw_static2": NORMALISED,
    "nchw_dynamo": NORMALISED,
    "group_norm": NORMALISED,
    "softmax": NORMALISED,
    "one_one_k": NORMALISED,
    "k_one_one": NORMALISED,
    "two_outputs": {**NORMALISED, "output": "logits"},
    "nhwc_uint8": {},
    "nhwc_float_bgr": {"scale": 255.0, "channels_order": "bgr"},
}


def joined(folder: Path) -> Any:
    """The network in a bundle's classifier/ behind a graph that does nothing else, for two pictures."""
    openvino = load_openvino()
    opset = openvino.opset13
    layout = Classifier.from_folder(folder).preprocessing.layout
    takes = opset.parameter([-1, *(SHAPE if layout == "nchw" else (*SHAPE[1:], SHAPE[0]))], np.float32, "noisy")
    model = behind(openvino.Model([opset.result(takes)], [takes], "prepared"), 0, folder)
    model.reshape({model.inputs[0]: [2, *list(model.inputs[0].get_partial_shape())[1:]]})
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})


@pytest.mark.parametrize("name", ONNX)
def test_an_onnx_file(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    taken = take(str(GOLDEN / f"onnx/{name}.onnx"), tmp_path / "a", SHAPE, Told(**ONNX[name]))
    assert taken.outputs == 10
    compiled, prepare = joined(tmp_path / "a"), Classifier.from_folder(tmp_path / "a")
    for pixels, answer in PICTURES:
        takes = prepare(torch.from_numpy(pictures(pixels))).contiguous().numpy()
        logits = next(iter(compiled([takes]).values()))
        # Its softmax is cut off: what is expected of this one are probabilities.
        got = softmax(logits) if name == "nhwc_float_bgr" else logits
        np.testing.assert_allclose(got, expected(f"onnx_{name}", answer), rtol=0, atol=TOLERANCE)


def packed(denoiser: Path, classifier: Path, out: Path, told: dict[str, Any], **options: Any) -> Path:
    pack(
        denoiser=denoiser / "denoiser", scheduler=denoiser / "scheduler", classifier=str(classifier),
        told=Told(**told), sigmas=(0.25,), out=out, **options,
    )  # fmt: skip
    return out


@pytest.mark.parametrize(
    ("classifier", "told", "case"),
    [
        ("timm/hub_bin", {}, "timm"),
        ("transformers_vit", {}, "transformers_vit"),
        ("onnx/group_norm.onnx", NORMALISED, "onnx_group_norm"),  # as it is, it ends the process that compiles it
        ("onnx/nhwc_uint8.onnx", {}, "onnx_nhwc_uint8"),
    ],
)
def test_through_a_bundle_and_the_engine_of_a_cpu(
    classifier: str, told: dict[str, Any], case: str, denoiser: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    if case.startswith("transformers"):
        pytest.importorskip("transformers")
    out = packed(denoiser, GOLDEN / classifier, tmp_path / "out", told)
    pipeline = load_pipeline(out)
    assert pipeline.engine.name.startswith("openvino")
    for name, answer in PICTURES:
        logits = pipeline.engine.plain(pictures(name))
        np.testing.assert_allclose(logits, expected(case, answer), rtol=0, atol=TOLERANCE)
    assert pipeline.votes(pictures("float")[0], sigma=0.25, seed=1, first=0, count=32).sum() == 32
    if classifier.endswith(".onnx"):
        manifest = load_manifest(out)
        assert manifest.needs_openvino and upgrade(out).digest == manifest.digest  # made again, it is the same
        with pytest.raises(BundleError, match="expected openvino on a CPU .*, which alone runs an ONNX classifier"):
            load_pipeline(out, RuntimeOptions(engine="torch-eager-1"))


def test_preprocessing_is_part_of_the_files_that_the_digest_covers(tmp_path: Path) -> None:
    records = []
    for number, told in enumerate(({}, {"interpolation": "bilinear"})):
        taken = take(str(GOLDEN / "timm/hub_bin"), tmp_path / str(number), SHAPE, Told(**told))
        records.append((tmp_path / str(number) / CLASSIFIER).read_text())
    assert records[0] != records[1] and taken.source["told"] == {"interpolation": "bilinear"}


def test_the_classifier_of_a_bundle_is_one_too(tmp_path: Path) -> None:
    """With the preprocessing that it has there, and its names."""
    take(str(GOLDEN / "timm/hub_bin"), tmp_path / "a", SHAPE, Told(interpolation="nearest", scale=2.0))
    taken = take(str(tmp_path / "a"), tmp_path / "b", SHAPE, Told())
    assert (taken.preprocessing.interpolation, taken.preprocessing.scale, taken.labels) == ("nearest", 2.0, NAMES)
    taken = take(str(find_bundle("cifar10") / "classifier"), tmp_path / "cifar10", SHAPE, Told())
    assert taken.preprocessing.interpolation == "bilinear"  # as it was trained, whatever its config says
    pytest.importorskip("openvino")
    take(str(GOLDEN / "onnx/softmax.onnx"), tmp_path / "c", SHAPE, Told(**NORMALISED))
    taken = take(str(tmp_path / "c"), tmp_path / "d", SHAPE, Told(scale=3.0))
    assert (taken.library, taken.output, taken.preprocessing.scale) == ("onnx", "probabilities", 3.0)
    assert taken.preprocessing.mean == pytest.approx(NORMALISED["mean"])
