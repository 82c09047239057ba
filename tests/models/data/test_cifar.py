"""CIFAR's four versions, and pickles that want to do something."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certify.models.data.unpickle import load_plain
from certify.models.datasets import DataSet, open_dataset
from certify.service.errors import DataError

ROWS = np.random.default_rng(3).integers(0, 256, (6, 3072), dtype=np.uint8)
LABELS = [3, 8, 0, 6, 1, 9]
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python_10(folder: Path) -> None:
    for name, at in (("data_batch_10", 4), ("data_batch_2", 2), ("test_batch", 0)):
        batch = {"batch_label": name, "labels": LABELS[at : at + 2], "data": ROWS[at : at + 2],
                 "filenames": ["a.png", "b.png"]}  # fmt: skip
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(
        pickle.dumps({"num_cases_per_batch": 2, "label_names": NAMES, "num_vis": 3072})
    )
    (folder / "readme.html").write_text("not a batch")


def python_100(folder: Path) -> None:
    for name, part in (("train", slice(2, 6)), ("test", slice(0, 2))):
        batch = {b"fine_labels": LABELS[part], b"coarse_labels": [0] * 6, b"data": ROWS[part]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"fine_label_names": [name.encode() for name in NAMES]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


def binary_10(folder: Path) -> None:
    for name, at in (("data_batch_2.bin", 4), ("data_batch_1.bin", 2), ("test_batch.bin", 0)):
        rows = np.column_stack([np.array(LABELS[at : at + 2], np.uint8), ROWS[at : at + 2]])
        (folder / name).write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join([*NAMES, ""]))


def binary_100(folder: Path) -> None:
    for name, part in (("train.bin", slice(2, 6)), ("test.bin", slice(0, 2))):
        fine = np.array(LABELS[part], np.uint8)
        (folder / name).write_bytes(np.column_stack([0 * fine, fine, ROWS[part]]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES))


def seen(data: DataSet) -> np.ndarray:
    images = [np.asarray(Image.open(io.BytesIO(data.read(position)))) for position in range(len(data))]
    return np.stack(images).transpose(0, 3, 1, 2).reshape(len(data), 3072)


@pytest.mark.parametrize("version", [python_10, python_100, binary_10, binary_100])
def test_every_version_gives_back_pixels_labels_and_names(version: Callable[[Path], None], tmp_path: Path) -> None:
    version(tmp_path)
    test, train = open_dataset(str(tmp_path)), open_dataset(str(tmp_path), part="train")
    assert test.classes == tuple(NAMES) and test.split == "test" and train.split == "train"
    assert (seen(test) == ROWS[:2]).all() and test.labels == (3, 8)
    assert (seen(train) == ROWS[[2, 3, 4, 5]]).all() and train.labels == tuple(LABELS[2:])
    assert test.labels_in(tuple(reversed(NAMES))) == (6, 1)
    with pytest.raises(DataError, match="part: expected one of train, test of"):
        open_dataset(str(tmp_path), part="val")


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    python_10(folder)

    class Ours(datasets.CIFAR10):  # type: ignore[misc, name-defined]
        train_list, test_list = [("data_batch_2", ""), ("data_batch_10", "")], [("test_batch", "")]

        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            self.classes = NAMES

    for train, part in ((True, "train"), (False, "test")):
        theirs, ours = Ours(tmp_path, train=train), open_dataset(str(folder), part=part)
        assert (theirs.data.transpose(0, 3, 1, 2).reshape(-1, 3072) == seen(ours)).all()
        assert tuple(theirs.targets) == ours.labels


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol_are_read(protocol: int) -> None:
    batch = {"data": ROWS, "labels": [np.int64(2), 1], "wide": np.asfortranarray(ROWS).astype(">i4"), "b": b"\xff\x00"}
    read = load_plain(pickle.dumps(batch, protocol=protocol), "x")
    assert (read["data"] == ROWS).all() and read["data"].dtype == np.uint8
    assert (read["wide"] == ROWS).all() and read["labels"] == [2, 1] and read["b"] == b"\xff\x00"


def test_python_2s_own_pickle_is_read() -> None:
    """As the files of 2009 are: protocol 2, text as bytes, numpy's old names."""
    old = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x02\x03\x04\x05tbU\x06labelsq\x08]q\x09(K\x06K\x09eu."
    )
    read = load_plain(old, "x")
    assert read[b"labels"] == [6, 9] and (read[b"data"] == np.arange(6).reshape(2, 3)).all()


class Acts:
    """What a pickle would do if it could."""

    def __init__(self, act: Callable[..., Any], *arguments: Any) -> None:
        self.act, self.arguments = act, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.act, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_act_does_nothing(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for act in (Acts(os.system, f"touch {mark}"), Acts(eval, f"open({str(mark)!r}, 'w')"), Acts(np.load, str(mark))):
        batch = pickle.dumps({b"data": ROWS, b"labels": act}, protocol=protocol)
        (tmp_path / "test_batch").write_bytes(batch)
        with pytest.raises(DataError, match=r"test_batch: expected dicts, lists, bytes and numpy arrays alone, got .*"):
            open_dataset(str(tmp_path))
        assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        b"posix\nsystem",
        b"builtins\neval",
        b"numpy\nload",
        b"numpy.core.multiarray\nfromfile",
        b"numpy.testing\nrundocs",
    ],
)
def test_no_other_name_is_handed_out(name: bytes) -> None:
    with pytest.raises(DataError, match="which is not run"):
        load_plain(b"c" + name + b"\n.", "x")


@pytest.mark.parametrize(
    "data",
    [np.array([{}, 1], dtype=object), np.array(["text"]), np.zeros(2, dtype=[("a", "u1")])],
    ids=["objects", "text", "records"],
)
def test_arrays_of_anything_but_numbers_are_refused(data: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected an array of plain numbers"):
        load_plain(pickle.dumps({"data": data}), "x")


def test_a_forged_array_is_no_way_into_memory() -> None:
    """numpy would take the shape's word for it."""
    honest = pickle.dumps(np.zeros((2, 3), np.uint8), protocol=2)
    forged = honest.replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86")
    assert forged != honest
    with pytest.raises(DataError, match=r"expected \(255, 255\) of uint8, got 6 bytes"):
        load_plain(forged, "x")


RECONSTRUCT = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R"


@pytest.mark.parametrize(
    ("small", "message"),
    [
        (b"\x80\x02Nr\x00\x00\x10\x00.", "expected at most 2 things kept so far, got number 1048576"),
        (
            RECONSTRUCT + b"(K\x01J\x00\x00\x10\x00C\x01x\x86cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89C\x00tb.",
            "expected an array's shape, a tuple of whole numbers",
        ),
        (b"\x80\x02cnumpy\ndtype\nK\x01" + b"q\x01h\x01\x86" * 16 + b"\x85R.", "plain numbers, got dtype tuple"),
    ],
    ids=["memo", "shape", "dtype"],
)
def test_a_small_pickle_takes_little_memory(small: bytes, message: str) -> None:
    """With other numbers each of these took all there is: places, bytes, and text of an error."""
    with pytest.raises(DataError, match=message):
        load_plain(small, "x")


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = pickle.dumps({"data": ROWS[:2], "labels": [1, 2]})
    for content, message in (
        (whole[:900], "test_batch: expected a pickle of plain data"),
        (b"", "test_batch: expected a pickle of plain data"),
        (pickle.dumps([1, 2]), "test_batch: expected a pickled dict, got list"),
        (pickle.dumps({"labels": [1]}), r"test_batch: data: expected uint8 \(N, 3072\), got NoneType"),
        (
            pickle.dumps({"data": ROWS[:, :99], "labels": LABELS}),
            r"data: expected uint8 \(N, 3072\), got uint8 \(6, 99\)",
        ),
        (pickle.dumps({"data": ROWS, "labels": [1]}), "test_batch: labels: expected 6 labels, got 1"),
        (pickle.dumps({"data": ROWS, "labels": ["1"] * 6}), "test_batch: labels: expected integers"),
    ):
        (tmp_path / "test_batch").write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_dataset(str(tmp_path))
    (tmp_path / "test_batch").unlink()
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"test_batch\.bin: expected rows of 3073 bytes, got 3072"):
        open_dataset(str(tmp_path))
