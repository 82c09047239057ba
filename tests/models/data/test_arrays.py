"""Arrays of pixels: Keras', MedMNIST's and CIFAR-10-C's files give back every pixel and label."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certify.models.datasets import DataSet, open_dataset
from certify.service.errors import DataError

GRAY = np.random.default_rng(1).integers(0, 256, (7, 8, 8), dtype=np.uint8)
RGB = np.random.default_rng(2).integers(0, 256, (10, 8, 6, 3), dtype=np.uint8)
LABELS = np.array([3, 0, 1, 9, 2, 2, 7], np.uint8)


def pixels(data: DataSet) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(data.read(position)))) for position in range(len(data))])


def test_keras_mnist_is_its_test_part_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=GRAY[::-1], y_train=LABELS[::-1], x_test=GRAY, y_test=LABELS)
    data, train = open_dataset(str(path)), open_dataset(str(path), part="train")
    assert (data.name, data.split, data.labels) == ("mnist", "test", tuple(LABELS.tolist()))
    assert (pixels(data) == GRAY).all() and (pixels(train) == GRAY[::-1]).all()
    assert (train.split, train.labels) == ("train", tuple(LABELS[::-1].tolist()))
    assert data.digest() != train.digest() and data.digest() == open_dataset(str(path)).digest()
    assert data.part(shard=(2, 3)).stored is not None
    assert (pixels(data.part(shard=(2, 3))) == GRAY[1::3]).all()
    with pytest.raises(DataError, match=r"part: expected one of train, test of .*mnist\.npz, got 'val'"):
        open_dataset(str(path), part="val")


def test_medmnist_has_its_labels_in_a_column(tmp_path: Path) -> None:
    path = tmp_path / "bloodmnist.npz"
    arrays = {f"{part}_images": RGB[:n] for part, n in (("train", 3), ("val", 2), ("test", 4))}
    arrays |= {f"{part}_labels": np.arange(n)[:, None] for part, n in (("train", 3), ("val", 2), ("test", 4))}
    np.savez_compressed(path, **arrays)
    assert open_dataset(str(path)).labels == (0, 1, 2, 3)
    assert (pixels(open_dataset(str(path), part="val")) == RGB[:2]).all()


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        (RGB[:7].transpose(0, 3, 1, 2), RGB[:7]),
        (GRAY[..., None], GRAY),
        (GRAY[:, None], GRAY),
        (GRAY.astype("i8"), GRAY),
    ],
)
def test_channels_may_stand_first_or_last_and_integers_be_wide(
    stored: np.ndarray, seen: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", images=stored, labels=LABELS)
    data = open_dataset(str(tmp_path / "a.npz"))
    assert data.split == "all" and (pixels(data) == seen).all()


def test_names_of_classes_are_read_where_there_are_any(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=GRAY[:2], y=[1, 0], class_names=["cat", "dog"])
    data = open_dataset(str(tmp_path / "a.npz"))
    assert (data.classes, data.labels_in(("dog", "cat", "bird"))) == (("cat", "dog"), (0, 1))


def test_numbers_are_the_bundles_positions_unless_its_classes_are_numbers_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=GRAY[:2], y=[1, 0])
    data = open_dataset(str(tmp_path / "a.npz"))
    assert data.labels_in(("cat", "dog")) == (1, 0)
    assert data.labels_in(("5", "1", "0")) == (1, 2)
    for classes in (("cat",), ("1", "2")):
        with pytest.raises(DataError, match="a: expected classes of the bundle"):
            data.labels_in((*classes, "x") if classes == ("1", "2") else classes)


def corruptions(folder: Path) -> np.ndarray:
    """Ten images: two at each of five severities."""
    folder.mkdir()
    np.save(folder / "fog.npy", RGB)
    np.save(folder / "snow.npy", RGB[::-1])
    np.save(folder / "labels.npy", np.tile([4, 5], 5))
    return RGB


def test_a_corruption_of_cifar_10_c_is_a_part_and_a_severity_a_part_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    corruptions(folder)
    fog, third = (open_dataset(str(folder), part=part) for part in ("fog", "fog:3"))
    assert (fog.name, fog.split, len(fog), fog.labels[:3]) == ("CIFAR-10-C", "fog", 10, (4, 5, 4))
    assert (third.split, third.idx, third.labels) == ("fog:3", (4, 5), (4, 5))
    assert (pixels(third) == RGB[4:6]).all()
    direct = open_dataset(str(folder / "fog.npy"), part="3")
    assert (direct.digest(), direct.split) == (third.digest(), "fog:3")
    for part, message in (
        (None, r"part: expected one of fog, snow of .*, got none"),
        ("rain", "got 'rain'"),
        ("fog:6", "expected a severity from 1 to 5 .* got '6'"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(str(folder), part=part)


def test_labels_of_one_severity_serve_all_five(tmp_path: Path) -> None:
    corruptions(tmp_path / "c")
    np.save(tmp_path / "c" / "labels.npy", [4, 5])
    assert open_dataset(str(tmp_path / "c"), part="snow").labels == (4, 5) * 5


def test_an_npy_has_its_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x_test.npy", GRAY)
    with pytest.raises(DataError, match=r"x_test\.npy: expected its labels beside it, y_test\.npy or labels\.npy"):
        open_dataset(str(tmp_path / "x_test.npy"))
    np.save(tmp_path / "y_test.npy", LABELS)
    data = open_dataset(str(tmp_path / "x_test.npy"))
    assert data.labels == tuple(LABELS.tolist()) and (pixels(data) == GRAY).all()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (GRAY / 255, LABELS, "images: expected whole numbers in [0, 255] (uint8), got float64"),
        (GRAY.astype(int) - 1, LABELS, "images: expected values in [0, 255], got -1 to"),
        (GRAY[0], LABELS, "images: expected images (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W), got (8, 8)"),
        (np.zeros((2, 8, 8, 4), np.uint8), LABELS, "images: expected images (N, H, W)"),
        (GRAY, np.full(7, 2**32 - 1, np.uint32), "labels: expected labels below 1048576, got 4294967295"),
        (GRAY, LABELS[:5], "labels: expected 7 labels, as there are images, got 5"),
        (GRAY, np.eye(7), "labels: expected one integer an image, (N,) or (N, 1), got float64 (7, 7)"),
        (GRAY, LABELS.astype(int) - 1, "labels: expected labels from 0, got -1"),
        (GRAY, np.array([{}] * 7), "expected an .npz file: an array of Python objects"),
    ],
)
def test_arrays_of_another_kind_are_refused_by_name(images: Any, labels: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    with pytest.raises(DataError, match=re.escape(message)):
        open_dataset(str(tmp_path / "a.npz"))


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=GRAY)
    np.savez(tmp_path / "whole.npz", x=GRAY, y=LABELS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "objects.npy", np.array([{}]))
    (tmp_path / "array.npz").write_bytes((tmp_path / "labels.npy").read_bytes())
    for name, message in (
        ("other.npz", "expected arrays x_test and y_test .*; got weights"),
        ("cut.npz", "expected an .npz file"),
        ("array.npz", "expected an .npz file, got a single array"),
        ("cut.npy", "expected an .npy file of one array"),
        ("objects.npy", "expected an .npy file of one array"),
    ):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            open_dataset(str(tmp_path / name))


def test_names_that_numpy_keeps_as_bytes_are_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GRAY, labels=np.arange(7) % 2, classes=np.array([b"cat", b"dog"]))
    assert open_dataset(str(tmp_path / "a.npz")).classes == ("cat", "dog")


@pytest.mark.parametrize("shape", ["(1000000000, 32, 32, 3)", "(10000000000000000000, 3)", "(-1, 8, 8, 3)"])
def test_a_head_that_promises_what_no_memory_holds_is_refused(shape: str, tmp_path: Path) -> None:
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    forged = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(100)
    (tmp_path / "fog.npy").write_bytes(forged)
    np.save(tmp_path / "labels.npy", LABELS)
    np.savez(tmp_path / "a.npz", y_test=LABELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("x_test.npy", forged)
    for name in ("fog.npy", "a.npz"):
        with pytest.raises(DataError, match=f"{name}: expected an .np[yz] file"):
            open_dataset(str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array(["a", "b"])}, "labels: expected one integer an image"),
        ({"offsets": np.array(3)}, "offsets, classes: expected whole numbers and names, each in one dimension"),
        ({"offsets": np.array([0, 1.5, 2])}, "offsets, classes: expected whole numbers"),
        ({"labels": np.array([0, 2])}, "labels: expected values in"),
    ],
)
def test_image_files_in_an_npz_with_other_arrays_beside_them(change: Any, message: str, tmp_path: Path) -> None:
    files = {"jpeg": np.zeros(2, np.uint8), "offsets": np.arange(3), "labels": np.arange(2), "classes": ["cat", "dog"]}
    np.savez(tmp_path / "a.npz", **{**files, **change})
    with pytest.raises(DataError, match=message):
        open_dataset(str(tmp_path / "a.npz"))
