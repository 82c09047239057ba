"""What happens to pixels before a network, told by one record, however a library spells it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from certify.models.bundle import find_bundle
from certify.models.classifier import Classifier, NotInTorch
from certify.models.classifiers.transformers import of_processor
from certify.models.errors import BundleError
from certify.models.preprocessing import CLASSIFIER, Preprocessing, Record, read_record


def prepared(pixels: Any, **fields: Any) -> torch.Tensor:
    """Of one picture, (C, H, W)."""
    x = torch.tensor(pixels, dtype=torch.float32)
    told = Preprocessing(**{"input_size": tuple(x.shape), **fields})
    return Classifier(NotInTorch(), told).prepare(x[None])[0]


def test_the_steps_by_hand() -> None:
    """One pixel (red .2, green .4, blue 1.2): times 10, less 1, 2, 3, over 2: .5, 1, 4.5; then blue first."""
    told: dict[str, Any] = {"scale": 10.0, "mean": (1.0, 2.0, 3.0), "std": (2.0, 2.0, 2.0)}
    pixel = [[[0.2]], [[0.4]], [[1.2]]]
    assert prepared(pixel, **told).flatten().tolist() == pytest.approx([0.5, 1.0, 4.5])
    turned = prepared(pixel, **told, channels_order="bgr", layout="nhwc")
    assert turned.shape == (1, 1, 3) and turned.flatten().tolist() == pytest.approx([4.5, 1.0, 0.5])


def test_whole_numbers_are_rounded_and_clipped_alike_for_every_sample() -> None:
    """255 times -.1, .5/255, 1.5/255, 1.3: halves go to the even number."""
    values = prepared([[[-0.1, 0.5 / 255, 1.5 / 255, 1.3]]], scale=255.0, dtype="uint8")
    assert values.flatten().tolist() == [0, 0, 2, 255]


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 9), (5, 48)])
def test_a_kernel_is_pillows(kernel: str, size: tuple[int, int]) -> None:
    """Which timm's and transformers' own transforms use: PIL resizes floats with antialias."""
    picture = np.random.default_rng(0).random((12, 16), dtype=np.float32)
    filters = {"nearest": 0, "bilinear": 2, "bicubic": 3}
    theirs = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling(filters[kernel])))
    ours = prepared(picture[None], input_size=(1, *size), interpolation=kernel)
    np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=0, atol=2e-5)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    told = Preprocessing(input_size=(3, 8, 8), mean=(0.1, 0.2, 0.3), interpolation="bicubic", channels_order="bgr")
    record = Record(library="onnx", preprocessing=told, output="logits")
    record.write(tmp_path)
    assert read_record(tmp_path) == record


def test_without_a_record_a_bundle_is_read_as_ever(tmp_path: Path) -> None:
    """Older bundles' configs say bicubic; they were trained with bilinear, and keep their digests and their votes."""
    shutil.copy(find_bundle("cifar10") / "classifier" / "config.json", tmp_path)
    record = read_record(tmp_path)
    assert (record.library, record.preprocessing.interpolation) == ("timm", "bilinear")
    assert record.preprocessing.input_size == (3, 96, 96) and record.preprocessing.std == (0.5,) * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"library": "keras"}, "library: expected one of timm, transformers"),
        ({"more": 1}, "missing, unknown or badly typed field"),
        ({"preprocessing": {}}, "missing, unknown or badly typed field"),
        ({"preprocessing": {"input_size": [4, 8, 8]}}, "input_size: expected [C, H, W] with 1 (gray) or 3 channels"),
        ({"preprocessing": {"input_size": [3, 8, 8], "mean": [1, 2, float("nan")]}}, "mean: expected 3 numbers"),
        ({"preprocessing": {"input_size": [3, 8, 8], "interpolation": "lanczos"}}, "interpolation: expected bilinear"),
        ({"preprocessing": {"input_size": [1, 8, 8], "channels_order": "bgr"}}, "channels_order: expected rgb"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_named_by_file_and_field(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = {"library": "timm", "preprocessing": {"input_size": [3, 8, 8]}, "output": ""}
    (tmp_path / CLASSIFIER).write_text(json.dumps({**good, **change}))
    with pytest.raises(BundleError) as info:
        read_record(tmp_path)
    assert str(tmp_path / CLASSIFIER) in str(info.value) and message in str(info.value)


NORMAL = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
RESCALED = {"do_rescale": True, "rescale_factor": 0.00392156862745098}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"do_resize": True, "size": 6, "resample": 3, **RESCALED}, {"input_size": (6, 6), "interpolation": "bicubic"}),
        ({"do_resize": True, "size": {"height": 8, "width": 9}, "resample": 2}, {"input_size": (8, 9), "scale": 255.0}),
        ({"do_resize": True, "size": [8, 9], "resample": 0, **RESCALED}, {"input_size": (8, 9), "scale": 1.0}),
        ({"do_resize": True, "size": {"shortest_edge": 7}, **RESCALED, "crop_pct": 0.9}, {"input_size": (7, 7)}),
        (
            {"do_resize": True, "size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": 8},
            {"input_size": (8, 8)},
        ),
        ({"do_resize": False, **RESCALED, **NORMAL}, {"input_size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}),
        ({"do_resize": False, "do_rescale": False, **NORMAL}, {"scale": 255.0}),
        ({"do_resize": False, **RESCALED, "image_mean": [1, 1, 1], "do_normalize": False}, {"scale": 1.0}),
        ({"do_resize": False, **RESCALED, "do_flip_channel_order": True}, {"channels_order": "bgr"}),
        # EfficientNet's: v = 2 x - 1, then ((v - .5) / .5) / .5 = (2 x - 1.5) / .25
        (
            {"do_resize": False, "do_rescale": True, "rescale_factor": 2 / 255, "rescale_offset": True, **NORMAL,
             "include_top": True},
            {"scale": 2.0, "mean": (1.5,) * 3, "std": (0.25,) * 3},
        ),
    ],
)  # fmt: skip
def test_a_processors_settings_in_their_spellings(said: dict[str, Any], expected: dict[str, Any]) -> None:
    found = of_processor(said, Path("preprocessor_config.json"), sides=(32, 32))
    assert {name: found.get(name) for name in expected} == expected
    assert ("mean" in found) == bool(said.get("do_normalize"))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"do_pad": True}, "do_pad: expected false, got true"),
        ({"do_resize": True, "size": {"longest_edge": 9}}, "size: expected a number, {height, width} or"),
        ({"do_resize": True, "size": 9, "do_normalize": True, "image_mean": None}, "image_mean: expected a number"),
    ],
)  # fmt: skip
def test_a_processors_step_that_cannot_be_obeyed_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as info:
        of_processor(said, Path("preprocessor_config.json"), sides=None)
    assert message in str(info.value) and "preprocessor_config.json" in str(info.value)
