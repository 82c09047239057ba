"""Classes by other words: ImageNet's synsets and names, and what must not be taken for one another."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from certify.models.data.class_lists import names_in_config, read_classes
from certify.models.data.imagenet import synset_names
from certify.models.data.names import indices_of
from certify.service.errors import DataError


def index(name: str, *classes: str) -> int:
    return indices_of([name], classes, named=True, where="set")[name]


def needs_timm() -> None:
    pytest.importorskip("timm")
    assert synset_names()


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("tench, Tinca tinca", ("goldfish", "tench")),
        ("tench", ("goldfish, Carassius auratus", "tench, Tinca tinca")),
        ("great_white_shark", ("tench", "great white shark, white shark, man-eater")),
        ("white shark", ("tench", "great white shark, white shark, man-eater")),
        ("Tench", ("Goldfish", "tench")),
        ("a", ("A", "a")),
        ("crane", ("crane bird", "crane")),
        ("crane, bird", ("horn", "crane (134)")),
    ],
)
def test_the_same_class_in_other_words(name: str, classes: tuple[str, ...]) -> None:
    assert index(name, *classes) == 1


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["crane"], ("crane (134)", "crane (517)"), "expected one class of the bundle for 'crane', got 2"),
        (["bird"], ("cat", "dog"), "expected classes of the bundle (cat, dog), got 'bird'"),
        (["A", "a"], ("a", "b"), "expected a class of its own for 'a' and 'A', got 'a'"),
        (["x"], tuple(map(str, range(40))), "(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... 40 in all), got 'x'"),
    ],
)
def test_what_is_not_one_class_is_refused(names: list[str], classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        indices_of(names, classes, named=True, where="set")


def test_synsets_are_found_in_a_bundle_of_a_few_classes() -> None:
    needs_timm()
    assert index("n01440764", "goldfish", "tench") == 1
    assert index("n01440764", "n01443537", "n01440764") == 1
    assert index("tench", "n01443537", "n01440764") == 1
    with pytest.raises(DataError, match="got 'n01440764'"):
        index("n01440764", "n01443537", "n01484850")


def test_synsets_are_found_in_imagenets_thousand_whoever_names_them() -> None:
    """Also its two cranes, which have a name alone by their place."""
    needs_timm()
    meta = pytest.importorskip("torchvision.models._meta")
    synsets = ["n01440764", "n02012849", "n03126707", "n15075141"]
    numbers = tuple(map(str, range(1000)))
    for classes in (read_classes("imagenet"), tuple(meta._IMAGENET_CATEGORIES), numbers):
        found = indices_of(synsets, classes, named=True, where="set")
        assert list(found.values()) == [0, 134, 517, 999]
    with pytest.raises(DataError, match="got 'n00007846'"):  # "person" is a synset of another list
        index("n00007846", *read_classes("imagenet"))
    backwards = tuple(reversed(read_classes("imagenet")))
    assert index("n01440764", *backwards) == 999


def test_imagenet_is_timms_own_list() -> None:
    needs_timm()
    from timm.data import ImageNetInfo

    names, theirs = read_classes("imagenet"), ImageNetInfo().label_descriptions()
    assert len(set(names)) == 1000
    assert [ours for ours, their in zip(names, theirs, strict=True) if ours != their] == [
        "crane (n02012849)",
        "crane (n03126707)",
    ]
    assert len(set(read_classes("imagenet-12k"))) == 11821


@pytest.mark.parametrize(
    "content",
    [
        "tench\ngoldfish, Carassius auratus\n\ncrane\ncrane\n",
        "\ufefftench\r\ngoldfish, Carassius auratus\r\ncrane\r\ncrane",
        "n01440764 tench\nn01443537 goldfish, Carassius auratus\nn02012849 crane\nn03126707 crane\n",
        json.dumps(["tench", "goldfish, Carassius auratus", "crane", "crane"]),
        json.dumps({"1": "goldfish, Carassius auratus", "0": "tench", "2": "crane", "3": "crane"}),
        json.dumps({"id2label": {"0": "tench", "1": "goldfish, Carassius auratus", "2": "crane", "3": "crane"}}),
        json.dumps(
            {
                "0": ["n1", "tench"],
                "1": ["n2", "goldfish, Carassius auratus"],
                "2": ["n3", "crane"],
                "3": ["n4", "crane"],
            }
        ),
    ],
    ids=["lines", "windows", "kaggle", "list", "numbers", "config", "keras"],
)
def test_a_file_of_names(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8", newline="")
    expected = ("tench", "goldfish, Carassius auratus", "crane (2)", "crane (3)")
    assert read_classes(f"@{tmp_path / 'config.json'}") == expected == read_classes(f"@{tmp_path}")


def test_class_to_idx_is_read_the_other_way(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"dog": 1, "cat": 0}')
    assert read_classes(f"@{tmp_path / 'a.json'}") == ("cat", "dog")
    assert read_classes("cat, dog") == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected names, got none"),
        ("tench\n2\tgoldfish", "expected names without control characters, got '2\\\\tgoldfish'"),
        ('["a", 3]', "expected names, got 3"),
        ('{"0": "a", "2": "b"}', "expected a name for each of 0 to 1, and there is none for 1"),
        ('{"id2label": {"1": "a", "2": "b"}}', "id2label: expected a name for each of 0 to 1, and there is none for 0"),
        ('{"a": 0, "b": 0}', "expected a number of its own for each name"),
        ('["a"', "expected a name a line, or JSON"),
        ("\udcff", "expected UTF-8 text"),
    ],
)
def test_a_file_that_has_no_names_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=f"classes: .*a.txt: {message}"):
        read_classes(f"@{tmp_path / 'a.txt'}")


def test_a_classifiers_own_config_has_names_or_placeholders() -> None:
    assert names_in_config({"id2label": {"0": "cat", "1": "dog"}}, "x") == ("cat", "dog")
    assert names_in_config({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "x") is None
    assert names_in_config({"id2label": ["cat", "dog"]}, "x") == ("cat", "dog")
    assert names_in_config({"label_names": ["cat", "dog"]}, "x") == ("cat", "dog")
    assert names_in_config({"pretrained_cfg": {"label_names": ["cat", "dog"]}}, "x") == ("cat", "dog")
    assert names_in_config({"architecture": "resnet18"}, "x") is None
