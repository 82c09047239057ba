"""A folder with labels.csv, as spreadsheets and scripts write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from certify.models.datasets import open_dataset
from certify.service.errors import DataError
from tests import pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "sub/b.png", "c, d.png", "unnamed.png")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(pictures.png(number))
    return tmp_path / "set"


@pytest.mark.parametrize(
    "text",
    [
        'filename,label\na.png,cat\nsub/b.png,dog\n"c, d.png",cat\n',
        '\ufeffFile_Name , Label\r\na.png, cat\r\nsub/b.png, dog\r\n\r\n"c, d.png",cat\r\n',
        "split;class;image\nx;cat;a.png\nx;dog;sub/b.png\nx;cat;c, d.png",
        ',path,label\n0,a.png,cat\n1,sub/b.png,dog\n2,"c, d.png",cat\n',
        'a.png,cat\nsub/b.png,dog\n"c, d.png",cat\n',
    ],
    ids=["plain", "excel", "semicolons", "pandas", "no-header"],
)
def test_a_line_is_an_image(text: str, folder: Path) -> None:
    (folder / "labels.csv").write_text(text, encoding="utf-8", newline="")
    data = open_dataset(str(folder))
    assert (data.name, data.split, data.classes, data.labels) == ("set", "all", ("cat", "dog"), (0, 1, 0))
    assert [data.read(position) for position in range(3)] == [pictures.png(number) for number in range(3)]
    assert data.skipped == {"not in labels.csv": 1}
    assert open_dataset(str(folder / "labels.csv")).digest() == data.digest()


def test_labels_that_are_numbers_are_sorted_as_numbers_and_have_no_names(folder: Path) -> None:
    (folder / "labels.csv").write_text("filename,label\na.png,10\nsub/b.png,9\n")
    data = open_dataset(str(folder))
    assert (data.classes, data.labels, data.named) == (("9", "10"), (1, 0), False)
    assert data.labels_in(tuple("abcdefghijk")) == (10, 9)


def test_a_file_that_is_missing_spoils_its_row_alone(folder: Path) -> None:
    (folder / "labels.csv").write_text(f"filename,label\n{'x' * 300}.png,cat\na.png,dog\n")
    with pytest.raises(DataError, match="cannot be read: .*File name too long"):
        open_dataset(str(folder / "labels.csv")).read(0)
    (folder / "labels.csv").write_text("filename,label\nnone.png,cat\na.png,dog\n")
    data = open_dataset(str(folder))
    assert data.read(1) == pictures.png(0) and data.digest().startswith("sha256:")
    with pytest.raises(DataError, match=r"none\.png: cannot be read: .*No such file"):
        data.read(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a line for each image"),
        ("name_of_it,what\na.png,cat\n", "line 1: expected columns filename and label, got name_of_it, what"),
        ("filename,label\na.png\n", "line 2: expected a file name and a label"),
        ("filename,label\na.png,cat\nb.png,\n", "line 3: expected a file name and a label"),
        ("filename,label\n../a.png,cat\n", "line 2: expected a file in .*, got '../a.png'"),
        ("filename,label\n/etc/passwd,cat\n", "line 2: expected a file in .*, got '/etc/passwd'"),
        ("filename,label\nx.png,cat\n", ".*none of those it names is there"),
        ('filename,label\n"a.png,cat\n', "line 2: expected comma-separated cells"),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_line(text: str, message: str, folder: Path) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=f"labels.csv: {message}"):
        open_dataset(str(folder))
