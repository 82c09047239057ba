"""ONNX files of other shapes than the reference's, and the command that packs one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")

from certify.models.bundle import find_bundle, load_manifest
from certify.models.classifiers import Told, take
from certify.models.errors import BundleError
from tests.cli.test_cli import certify

from . import onnx_writer
from .conftest import SHAPE
from .test_golden import joined


def test_a_network_with_open_sides_and_channels_is_told_both(tmp_path: Path) -> None:
    """Or takes the pictures as they are."""
    nodes: list[onnx_writer.Node] = [
        ("GlobalAveragePool", ["input"], "means", {}),
        ("Flatten", ["means"], "flat", {"axis": 1}),
        ("MatMul", ["flat", "w"], "logits", {}),
    ]
    weights = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    path = onnx_writer.write(tmp_path / "a.onnx", nodes, {"w": weights}, [0, 3, 0, 0], [0, 5])
    assert take(str(path), tmp_path / "a", SHAPE, Told()).preprocessing.input_size == SHAPE
    assert take(str(path), tmp_path / "b", SHAPE, Told(input_size=(8, 9))).preprocessing.input_size == (3, 8, 9)
    with pytest.raises(BundleError, match="expected a size; --input-size says it"):
        take(str(path), tmp_path / "c", None, Told())
    path = onnx_writer.write(tmp_path / "b.onnx", nodes, {"w": weights}, [0, 0, 32, 32], [0, 5])
    with pytest.raises(BundleError, match="where its channels are: --layout nchw or nhwc"):
        take(str(path), tmp_path / "c", SHAPE, Told())
    assert take(str(path), tmp_path / "c", SHAPE, Told(layout="nchw")).outputs == 5


@pytest.mark.parametrize(
    ("last", "classes", "message"),
    [
        (("Add", ["product", "rows"], "logits", {}), 5, r"outputs: expected one .*, got logits f32\[2,5\]"),
        (("ReduceSum", ["product", "axes"], "logits", {"keepdims": 1}), 5, "another number of answers"),
        (("Relu", ["product"], "logits", {}), 1, "of a network with one number, give both classes one"),
        (("TopK", ["product", "three"], "logits", {}), 5, r"in their order, got the largest of them \(TopK\)"),
    ],
)  # fmt: skip
def test_other_networks_that_are_no_classifiers(
    last: onnx_writer.Node, classes: int, message: str, tmp_path: Path
) -> None:
    nodes: list[onnx_writer.Node] = [
        ("Flatten", ["input"], "flat", {"axis": 1}),
        ("MatMul", ["flat", "w"], "product", {}),
        last,
    ]
    ones = np.ones((3072, classes), np.float32)
    weights = {"w": ones, "rows": ones[:2], "axes": np.array([0]), "three": np.array([3])}
    path = onnx_writer.write(tmp_path / "a.onnx", nodes, weights, [0, *SHAPE], [0, classes])
    with pytest.raises(BundleError, match=message):
        take(str(path), tmp_path / "out", SHAPE, Told())


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_probabilities_that_float32_cannot_tell_apart(last: str, tmp_path: Path) -> None:
    """What stands before them can: a sigmoid of 30 is 1, and so is one of 40."""
    nodes: list[onnx_writer.Node] = [
        ("GlobalAveragePool", ["input"], "means", {}),
        ("Flatten", ["means"], "flat", {"axis": 1}),
        ("MatMul", ["flat", "w"], "product", {}),
        (last, ["product"], "probabilities", {}),
        ("Cast", ["probabilities"], "logits", {"to": 1}),
    ]
    weights = np.float32([[10, 20, 30, 40]] * 3)
    path = onnx_writer.write(tmp_path / "a.onnx", nodes, {"w": weights}, [0, *SHAPE], [0, 4])
    taken = take(str(path), tmp_path / "a", SHAPE, Told())
    assert f"output logits: its {last.lower()} is left out, which moves no vote" in taken.notes
    (logits,) = joined(tmp_path / "a")([np.ones((2, *SHAPE), np.float32)]).values()
    np.testing.assert_allclose(logits, [[30, 60, 90, 120]] * 2, rtol=1e-5)


def test_probabilities_as_whole_numbers_are_what_the_file_says(tmp_path: Path) -> None:
    """Another function than what stands before them: of three sigmoids at 1 the first is the answer."""
    nodes: list[onnx_writer.Node] = [
        ("GlobalAveragePool", ["input"], "means", {}),
        ("Flatten", ["means"], "flat", {"axis": 1}),
        ("MatMul", ["flat", "w"], "product", {}),
        ("Sigmoid", ["product"], "probabilities", {}),
        ("Cast", ["probabilities"], "whole", {"to": 6}),
        ("Cast", ["whole"], "logits", {"to": 1}),
    ]
    weights = np.float32([[-10, 20, 30, 40]] * 3)
    path = onnx_writer.write(tmp_path / "a.onnx", nodes, {"w": weights}, [0, *SHAPE], [0, 4])
    taken = take(str(path), tmp_path / "a", SHAPE, Told())
    assert not any("is left out" in note for note in taken.notes)
    (logits,) = joined(tmp_path / "a")([np.ones((2, *SHAPE), np.float32)]).values()
    np.testing.assert_array_equal(logits, [[0, 1, 1, 1]] * 2)


def test_the_command_says_what_it_understood_and_what_the_bundle_costs(tmp_path: Path) -> None:
    """On the digits, with the denoiser of the shipped bundle: the self-test runs on the engine that there is."""
    pytest.importorskip("sklearn")
    path, digits = onnx_writer.linear(tmp_path / "mine.onnx", [0, 1, 8, 8], 10), find_bundle("digits")
    code, out, err = certify(
        "bundles", "pack", "--denoiser", digits / "denoiser", "--scheduler", digits / "scheduler", "--classifier", path,
        "--no-antialias", "--classes=a,b,c,d,e,f,g,h,i,j", "--sigmas=0.12,0.25", "--images=digits",
        "--limit=8", "--out", tmp_path / "mine",
    )  # fmt: skip
    assert code == 0, err
    assert re.search(
        r"^denoiser    UNet2DModel, [\d,.]+ (million )?parameters, pictures 1x8x8, predicts v_p", out, re.M
    )
    assert re.search(r"^classifier  a network of \d+ operations \(onnx\), 640 parameters$", out, re.M)
    assert f"takes 1x8x8, bilinear ({path} and the options)" in out
    assert "nothing was said of mean, std or scale: it gets pixels in [0, 1] as they are" in out
    assert "10 classes: a, b, c, d, e, ... (--classes)" in out and "output logits" in out
    assert len(re.findall(r"^\| 0\.\d+ \| \d\.\d{3} \| ", out, re.M)) == 2  # the self-test
    assert re.search(
        r"^cost        [\d,.]+ draws a second .*openvino.*, [\d.e-]+ GFLOP and [\d.]+ MB a draw", out, re.M
    )
    assert f"serve       certify serve --bundle {tmp_path / 'mine'}" in out
    source = load_manifest(tmp_path / "mine").provenance["sources"]["classifier"]
    assert source["kind"] == "ONNX file" and source["told"] == {"antialias": False}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--input-size=8x", "--input-size: expected pixels as 224, or 224x192 (height first), got '8x'"),
        ("--mean=a", "--mean: expected numbers with commas between, got 'a'"),
        ("--model-args=[1]", "--model-args: expected a JSON object"),
        ("--layout=chw", "--layout: expected nchw or nhwc, got 'chw'"),
    ],
)
def test_an_option_that_cannot_be_read(option: str, message: str, tmp_path: Path) -> None:
    digits = find_bundle("digits")
    code, _, err = certify(
        "bundles", "pack", "--denoiser", digits / "denoiser", "--scheduler", digits / "scheduler", "--classifier",
        digits / "classifier", "--sigmas=0.25", "--out", tmp_path / "out", option,
    )  # fmt: skip
    assert code == 1 and message in err and not (tmp_path / "out").exists()
