"""MNIST's files, packed and not: what comes back, torchvision beside it, and files that lie about themselves."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certify.models.data.idx import FASHION, is_idx
from certify.models.datasets import DataSet, open_dataset, open_part
from certify.service.errors import DataError

PIXELS = np.random.default_rng(3).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 8, 0, 6, 1, 9], dtype=np.uint8)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def put(folder: Path, name: str, content: bytes) -> None:
    """By its name packed or not."""
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def pair(folder: Path, start: str, rows: slice, *, dot: str = "-", end: str = "") -> None:
    put(folder, f"{start}-images{dot}idx3-ubyte{end}", idx(PIXELS[rows]))
    put(folder, f"{start}-labels{dot}idx1-ubyte{end}", idx(LABELS[rows]))


def seen(data: DataSet) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(data.read(position)))) for position in range(len(data))])


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_both_parts_come_back_as_they_were(tmp_path: Path, dot: str, end: str) -> None:
    pair(tmp_path, "train", slice(2, 6), dot=dot, end=end)
    pair(tmp_path, "t10k", slice(0, 2), dot=dot, end=end)
    test, train = open_dataset(str(tmp_path)), open_dataset(str(tmp_path), part="train")
    assert (test.split, train.split, test.name) == ("test", "train", tmp_path.name)
    assert (seen(test) == PIXELS[:2]).all() and test.labels == (3, 8)
    assert (seen(train) == PIXELS[2:]).all() and train.labels == tuple(LABELS[2:])
    assert not test.named and test.idx == (0, 1)
    with pytest.raises(DataError, match="part: expected one of test, train of"):
        open_dataset(str(tmp_path), part="val")


def test_a_packed_file_and_the_same_unpacked_are_one_part_with_one_digest(tmp_path: Path) -> None:
    pair(tmp_path, "t10k", slice(0, 6), end=".gz")
    packed = open_dataset(str(tmp_path))
    pair(tmp_path, "t10k", slice(0, 6))
    both = open_dataset(str(tmp_path))
    assert len(both) == 6 and both.digest() == packed.digest()


def test_several_sets_in_one_folder_are_asked_for_by_name(tmp_path: Path) -> None:
    """As EMNIST lies."""
    pair(tmp_path, "emnist-letters-test", slice(0, 2), end=".gz")
    assert open_dataset(str(tmp_path)).split == "emnist-letters-test"
    pair(tmp_path, "emnist-digits-test", slice(2, 6), end=".gz")
    assert len(open_dataset(str(tmp_path), part="emnist-digits-test")) == 4
    with pytest.raises(DataError, match="one of emnist-digits-test, emnist-letters-test of .*, got none"):
        open_dataset(str(tmp_path))


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pair(raw, "train", slice(2, 6))
    pair(raw, "t10k", slice(0, 2))
    for train, part in ((True, "train"), (False, "test")):
        theirs, ours = datasets.FashionMNIST(tmp_path, train=train), open_part(raw, part)
        assert (theirs.data.numpy() == seen(ours)).all() and tuple(theirs.targets.tolist()) == ours.labels


IMAGES, TRUTH = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
WHOLE = idx(PIXELS)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", r"dimensions: 3, which begins 00 00 08 03; got an empty file"),
        (IMAGES, WHOLE[:3], "got 00 00 08$"),
        (IMAGES, WHOLE[:9], "expected 12 bytes of dimensions, got 5"),
        (IMAGES, WHOLE[:-1], "expected 120 bytes after its head, 6 x 5 x 4, got 119"),
        (IMAGES, WHOLE + b"x", "expected 120 bytes after its head, 6 x 5 x 4, got (121|more)"),
        (IMAGES, idx(PIXELS, kind=0x0D), "got 00 00 0d 03"),
        (IMAGES, idx(LABELS), "got 00 00 08 01"),
        (IMAGES, idx(PIXELS[:0]), "dimensions: expected a product from 1 to .*, got 0 x 5 x 4"),
        (IMAGES, bytes((0, 0, 8, 3)) + b"\xff" * 12, "dimensions: expected a product from 1 to"),
        (IMAGES, idx(PIXELS[:5]), "labels.*: expected 5 labels, as there are images, got 6"),
        (TRUTH, bytes((0, 0, 8, 1, 1, 0, 0, 1)), "labels.*: expected a product from 1 to 16777216, got 16777217"),
        (TRUTH, idx(PIXELS), "labels.*dimensions: 1, .*got 00 00 08 03"),
        (TRUTH, idx(LABELS)[:-1], "labels.*: expected 6 bytes after its head, 6, got 5"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str, end: str) -> None:
    pair(tmp_path, "t10k", slice(0, 6), end=end)
    put(tmp_path, name + end, content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(str(tmp_path))
    assert "t10k-" in str(caught.value)


def test_a_packed_file_that_is_cut_damaged_or_not_packed_is_refused(tmp_path: Path) -> None:
    pair(tmp_path, "t10k", slice(0, 6), end=".gz")
    packed = (tmp_path / f"{IMAGES}.gz").read_bytes()
    for content in (WHOLE, packed[:-12], packed[:40] + bytes(20) + packed[60:]):
        (tmp_path / f"{IMAGES}.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: cannot be read as an IDX file"):
            open_dataset(str(tmp_path))


def test_a_head_that_promises_a_gigabyte_makes_no_room_for_it(tmp_path: Path) -> None:
    pair(tmp_path, "t10k", slice(0, 6), end=".gz")
    put(tmp_path, f"{IMAGES}.gz", WHOLE[:4] + np.array([2**10, 2**10, 2**10], ">u4").tobytes() + b"pixels")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected 1073741824 bytes .* got a file of .*, which cannot hold them"):
            open_dataset(str(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    put(tmp_path, f"{IMAGES}.gz", WHOLE)
    assert is_idx(tmp_path)
    with pytest.raises(DataError, match="expected its labels beside it, t10k-labels-idx1-ubyte, and there is no such"):
        open_dataset(str(tmp_path))


def test_a_part_is_found_in_an_npz_a_folder_or_the_data_themselves(tmp_path: Path) -> None:
    pair(tmp_path, "train", slice(2, 6), end=".gz")
    assert open_part(tmp_path, "train").labels == tuple(LABELS[2:])
    for name, label in (("b", 1), ("a", 0)):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(PIXELS[label]).save(tmp_path / "train" / name / "1.png")
    assert open_part(tmp_path, "train").classes == ("a", "b")
    np.savez(tmp_path / "train.npz", images=PIXELS[:3], labels=LABELS[:3])
    assert open_part(tmp_path, "train").labels == (3, 8, 0)
    with pytest.raises(DataError, match="part: expected one of train of .*, got 'test'"):
        open_part(tmp_path, "test")


def test_the_shipped_thousand() -> None:
    data = open_dataset("fashion")
    assert (data.name, data.split, len(data), data.classes) == ("fashion", "first-1000:test", 1000, FASHION)
    assert data.labels[:10] == (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)  # as everyone's first ten test images
    assert seen(data.part(limit=3)).shape == (3, 28, 28)
    assert min(np.bincount(data.labels, minlength=10)) >= 80
    with pytest.raises(DataError, match="part: expected one of test of .*, got 'train'"):
        open_dataset("fashion", part="train")
