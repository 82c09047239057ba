"""Hugging Face's Parquet files, written by pyarrow and read back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from certify.models.datasets import open_dataset
from certify.service.errors import DataError
from tests import pictures

FILES = [pictures.png(seed) for seed in range(7)]


def write(path: Path, columns: Mapping[str, Sequence[Any]], features: object = None, **options: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'certify[data]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(dict(columns))
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


def cells(first: int, last: int) -> list[dict[str, object]]:
    return [{"bytes": FILES[number], "path": f"{number}.png"} for number in range(first, last)]


def test_shards_of_a_part_follow_one_another_whatever_their_row_groups(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    write(
        folder / "data" / "test-00000-of-00002-ab12.parquet",
        {"image": cells(0, 5), "label": [3, 0, 1, 2, 0]},
        row_group_size=2,
    )
    write(folder / "data" / "test-00001-of-00002-ab12.parquet", {"image": cells(5, 7), "label": [1, 1]})
    write(folder / "data" / "train-00000-of-00001.parquet", {"image": cells(2, 3), "label": [2]})
    data = open_dataset(str(folder))
    assert (data.name, data.split, data.labels) == ("mnist", "test", (3, 0, 1, 2, 0, 1, 1))
    assert [data.read(position) for position in range(7)] == FILES
    assert data.read(0) == FILES[0]  # backwards, too
    assert [data.part(shard=(2, 3)).read(position) for position in range(2)] == [FILES[1], FILES[4]]
    assert open_dataset(str(folder), part="train").read(0) == FILES[2]
    with pytest.raises(DataError, match="part: expected one of test, train of .*, got 'dev'"):
        open_dataset(str(folder), part="dev")


def test_class_names_come_from_the_files_own_features(tmp_path: Path) -> None:
    features = {
        "img": {"_type": "Image"},
        "coarse_label": {"_type": "ClassLabel", "names": ["x"]},
        "fine_label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    }
    columns = {"coarse_label": [0, 0], "fine_label": [1, 0], "img": cells(0, 2)}
    data = open_dataset(str(write(tmp_path / "cifar100" / "test" / "0000.parquet", columns, features).parent.parent))
    assert (data.split, data.classes, data.labels_in(("dog", "cat"))) == ("test", ("cat", "dog"), (0, 1))


def test_labels_may_be_words_and_images_bare_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"picture": FILES[:3], "label": ["dog", "cat", "dog"]})
    data = open_dataset(str(path))
    assert (data.split, data.classes, data.labels) == ("all", ("cat", "dog"), (1, 0, 1))
    assert data.read(2) == FILES[2]


def test_a_row_without_bytes_is_a_file_beside_it_or_cannot_be_read(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": "1.png"}, {"bytes": None, "path": "../1.png"}, {"bytes": b"no image", "path": None}]
    path = write(tmp_path / "set" / "a.parquet", {"image": rows, "label": [0, 1, 1]})
    (tmp_path / "1.png").write_bytes(FILES[0])
    (path.parent / "1.png").write_bytes(FILES[1])
    data = open_dataset(str(path))
    assert data.read(0) == FILES[1]
    for position, message in ((1, "expected an image's bytes, got ../1.png"), (2, "row 2 of all: expected an image")):
        with pytest.raises(DataError, match=message):
            data.read(position)
    assert data.digest() == open_dataset(str(path)).digest()


def test_what_is_not_of_that_form_is_refused(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    broken = write(tmp_path / "ok" / "a.parquet", {"image": cells(0, 1), "label": [0]}).with_name("broken.parquet")
    broken.write_bytes(b"PAR1 and no more")
    for path, message in (
        (broken, "broken.parquet: expected a Parquet file"),
        (
            write(tmp_path / "1.parquet", {"text": ["x"], "label": [1]}),
            "expected columns image {bytes, path} and label",
        ),
        (write(tmp_path / "2.parquet", {"image": cells(0, 1)}), "got image (struct<"),
        (
            write(tmp_path / "3.parquet", {"image": cells(0, 2), "label": [1, None]}),
            "expected a label in each row, got 1",
        ),
        (write(tmp_path / "4.parquet", {"image": cells(0, 1), "label": [-1]}), "expected labels from 0, got -1"),
        (
            write(tmp_path / "5.parquet", {"image": cells(0, 1), "label": [2]}, features),
            "labels in [0, 2), got up to 2",
        ),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            open_dataset(str(path))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=re.escape("expected pyarrow, which reads it (pip install 'certify[data]')")):
        open_dataset(str(tmp_path))
