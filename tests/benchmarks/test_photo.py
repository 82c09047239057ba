"""How crops are cut and shares are judged."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import numpy as np
from PIL import Image

from benchmarks.photo import SHORTER, Crop, crops, interval
from benchmarks.photo_demo import PHOTOGRAPHS
from certify.models.photo import SIZE


def _columns(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row, in steps of 256 for the whole picture."""
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([columns * 256 // width, rows * 256 // height, 0 * rows], axis=2).astype(np.uint8))


def test_a_long_photograph_gives_its_ends_and_its_middle(tmp_path):
    _columns(2 * SHORTER, SHORTER).save(tmp_path / "wide.png")
    left, middle, right = crops(tmp_path / "wide.png")
    assert left.shape == middle.shape == right.shape == (SIZE, SIZE, 3)
    # 512 columns, two a step: crops begin at 0, 144 and 288; 256 rows, one a step: all begin at 16
    assert [int(crop[0, 0, 0]) for crop in (left, middle, right)] == [0, 72, 144]
    assert {int(crop[0, 0, 1]) for crop in (left, middle, right)} == {16}
    _columns(SHORTER, 2 * SHORTER).save(tmp_path / "tall.png")
    assert [int(crop[0, 0, 1]) for crop in crops(tmp_path / "tall.png")] == [0, 72, 144]


def test_a_square_one_gives_its_middle_alone(tmp_path):
    _columns(3 * SHORTER, 3 * SHORTER).save(tmp_path / "square.png")
    (middle,) = crops(tmp_path / "square.png")
    assert middle.shape == (SIZE, SIZE, 3) and abs(int(middle[0, 0, 0]) - 16) <= 1


def _crop(photograph: str, agreeing: int) -> Crop:
    return Crop(
        photograph=photograph, place=0, label=0, confidence=0.9, draws=8, agreeing={"plain": (agreeing, 8, 0)}
    )  # fmt: skip


def test_the_interval_draws_photographs_not_crops():
    """Ten crops of one photograph agree, one of another does not: two clusters, so either may be missing."""
    measured = [*(_crop("one", 8) for _ in range(10)), _crop("other", 0)]
    assert interval(measured, "plain", 0) == (10 / 11, 0.0, 1.0)
    assert interval(measured, "plain", 1) == (1.0, 1.0, 1.0)
    assert interval(measured, "plain", 2) == (0.0, 0.0, 0.0)


def test_the_demos_photographs_are_small_and_of_the_bundles_size():
    assert [path.stem for path in PHOTOGRAPHS] == ["coffee", "jaguar", "kitten", "panda", "spoons"]
    for path in PHOTOGRAPHS:
        with Image.open(path) as file:
            assert file.size == (SIZE, SIZE) and path.stat().st_size < 100_000
