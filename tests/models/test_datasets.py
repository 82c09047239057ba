"""Readers of labelled images: every byte and label is where it was, and what is wrong is named."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certify.models.datasets import digits_pixels, open_dataset
from certify.service.answering.images import decode_image
from certify.service.errors import DataError


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    files = [jpeg(level) for level in (0, 100, 200)]
    path = tmp_path / "three.npz"
    np.savez(
        path,
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=np.array([1, 0, 1], np.uint8),
        classes=np.array(["dark", "light"]),
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, levels in (("dark", [0, 10]), ("light", [200])):
        (tmp_path / "set" / name).mkdir(parents=True)
        for level in levels:
            (tmp_path / "set" / name / f"{level}.jpg").write_bytes(jpeg(level))
    (tmp_path / "set" / "dark" / "notes.txt").write_text("not an image")
    return tmp_path / "set"


def test_an_npz_gives_back_every_file(npz: Path) -> None:
    data = open_dataset(str(npz))
    assert (data.name, data.split, data.classes) == ("three", "all", ("dark", "light"))
    assert (data.idx, data.labels) == ((0, 1, 2), (1, 0, 1))
    assert [data.read(i) for i in range(3)] == [jpeg(level) for level in (0, 100, 200)]


def test_a_folder_is_read_in_the_order_of_names(folder: Path) -> None:
    data = open_dataset(str(folder))
    assert (data.classes, data.labels) == (("dark", "light"), (0, 0, 1))
    assert [data.read(i) for i in range(3)] == [jpeg(level) for level in (0, 10, 200)]


def test_digits_are_the_held_out_part_unless_asked_and_decode_to_their_pixels() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = open_dataset("digits")
    assert (len(data), data.split) == (449, "digits-60-15-25-v1:held_out")
    raw = datasets.load_digits()
    for position in (0, 1, 448):
        tensor = decode_image(data.read(position), (1, 8, 8), resize=False, max_pixels=64).tensor
        expected = np.round(raw.images[data.idx[position]] * 255 / 16).astype(np.float32) / np.float32(255)
        assert (tensor[0] == expected).all()
        assert data.labels[position] == raw.target[data.idx[position]]
    parts = [set(open_dataset("digits", part=part).idx) for part in ("train", "tune", "held_out")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_shards_together_are_the_whole_and_share_nothing(npz: Path) -> None:
    data = open_dataset(str(npz))
    shards = [data.part(shard=(i, 2)) for i in (1, 2)]
    assert [shard.idx for shard in shards] == [(0, 2), (1,)]
    assert shards[0].read(1) == data.read(2) and shards[1].read(0) == data.read(1)
    assert data.part(limit=2).idx == (0, 1)
    assert data.part(limit=2, shard=(2, 2)).labels == (0,)


def test_the_digest_is_of_images_labels_and_numbers(npz: Path) -> None:
    data = open_dataset(str(npz))
    assert data.digest() == open_dataset(str(npz)).digest()
    digests = {data.digest(), data.part(limit=2).digest(), data.part(shard=(1, 2)).digest()}
    assert len(digests) == 3


def test_digests_and_numbers_are_what_they_always_were(tmp_path: Path) -> None:
    """Tables and votes that were begun with an earlier version go on."""
    files = [b"first file", b"second", b"third one"]
    offsets = np.cumsum([0, *map(len, files)])
    jpegs = np.frombuffer(b"".join(files), np.uint8)
    np.savez(tmp_path / "three.npz", jpeg=jpegs, offsets=offsets, labels=[1, 0, 1], classes=["dark", "light"])
    data = open_dataset(str(tmp_path / "three.npz"))
    assert data.digest() == "sha256:3f93351b32e7487ce5b12584e5a1e09b6e48fe7aae12ba496211fc17af538fe8"
    for name, content in (("a/1.png", b"x"), ("a/10.jpg", b"y"), ("b/2.webp", b"z")):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_bytes(content)
    data = open_dataset(str(tmp_path / "f"))
    assert data.digest() == "sha256:9ddc2f614e12150309e995dbf5a554761058d35c8d5436fa450936be3dfbf44c"
    assert (data.idx, data.labels, data.skipped) == ((0, 1, 2), (0, 0, 1), {})


@pytest.mark.parametrize(("part", "first"), [("train", 1080), ("tune", 911), ("held_out", 652)])
def test_the_digits_digest_is_of_their_png_files(part: str, first: int) -> None:
    pytest.importorskip("sklearn")
    data, pixels = open_dataset("digits", part=part), digits_pixels()[0]
    assert data.idx[0] == first
    whole = hashlib.sha256()
    for position, idx in enumerate(data.idx):
        buffer = io.BytesIO()
        Image.fromarray(pixels[idx]).save(buffer, "PNG")
        content = hashlib.sha256(buffer.getvalue()).hexdigest()
        whole.update(f"{idx}\t{data.labels[position]}\t{content}\n".encode())
    assert data.digest() == f"sha256:{whole.hexdigest()}"


def test_labels_go_by_name_not_by_number(npz: Path) -> None:
    data = open_dataset(str(npz))
    assert data.labels_in(("light", "other", "dark")) == (0, 2, 0)
    with pytest.raises(DataError, match=re.escape("three: expected classes of the bundle (dark, grey), got 'light'")):
        data.labels_in(("dark", "grey"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "there is no labels"),
        ({"jpeg": np.zeros((2, 2), np.uint8)}, r"jpeg: expected uint8 in one dimension, got uint8 \(2, 2\)"),
        ({"offsets": np.array([0, 5])}, "offsets: expected 4 ascending values from 0"),
        ({"offsets": np.array([0, 9, 5, 10**9])}, "offsets: expected 4 ascending"),
        ({"labels": np.array([0, 1, 2])}, r"labels: expected values in \[0, 2\), got up to 2"),
    ],
)
def test_a_wrong_npz_is_refused_by_field(npz: Path, change: dict[str, object], message: str) -> None:
    with np.load(npz) as stored:
        arrays = {**stored, **change}
    np.savez(npz, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=message):
        open_dataset(str(npz))


def test_what_is_no_data_set_is_refused(tmp_path: Path, npz: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"not a zip")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    data = open_dataset(str(npz))
    for call, message in (
        (
            lambda: open_dataset("nothing"),
            "expected digits, fashion, an .npz, .*; got 'nothing', and there is no such file",
        ),
        (lambda: open_dataset(__file__), r"expected digits, fashion, an .npz, .*; got .*test_datasets\.py"),
        (lambda: open_dataset(str(tmp_path / "broken.npz")), "expected an .npz file"),
        (lambda: open_dataset(str(tmp_path / "empty")), "expected a folder for each class"),
        (lambda: open_dataset("digits", part="test"), "part: expected one of train, tune, held_out, got 'test'"),
        (lambda: open_dataset(str(npz), part="tune"), "part: expected none"),
        (lambda: data.part(shard=(3, 2)), "expected i/n with 1 <= i <= n, got 3/2"),
        (lambda: data.part(limit=0), "limit: expected at least 1"),
    ):
        with pytest.raises(DataError, match=message):
            call()
