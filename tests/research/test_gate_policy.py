"""What a gate requires, and what it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from certify.models.datasets import DataSet
from certify.service.errors import DataError
from certify.service.research.gate_policy import GatePolicy, read_policy
from certify.service.research.gate_run import draw_images, images_to_go, requirements

pytest.importorskip("yaml")
NONE = dict.fromkeys(("radius", "at_least", "confidence", "class_at_least", "max_images"))


def read(tmp_path: Path, text: str, **options: object) -> GatePolicy:
    (tmp_path / "gate.yaml").write_text(text)
    return read_policy(tmp_path / "gate.yaml", {**NONE, **options})


def test_a_file_and_options_are_one_policy(tmp_path: Path) -> None:
    policy = read(tmp_path, 'radius: 0.25\nclasses: {"7": 0.5, cat: 0.6}\nmax_images: 100\n', at_least=0.9)
    assert policy == GatePolicy(radius=0.25, at_least=0.9, classes={"7": 0.5, "cat": 0.6}, max_images=100)
    assert policy.confidence == 0.95


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("radius: 1\n", {}, "at_least: expected --at-least"),
        ("", {}, "expected some of radius"),
        ("- 1\n", {}, "got list"),
        ("radius: [1\n", {}, "expected a gate's policy, in YAML"),
        ("radius: 2001-99-99\n", {}, "expected a gate's policy, in YAML: month must be"),
        ("radius: " + 5000 * "9", {}, "expected a gate's policy, in YAML: .*4300 digits"),
        ("radius: " + 5000 * "[", {}, "expected a gate's policy, in YAML: .*recursion"),
        ("radius: 1\nat_least: .5\nleast: 1\n", {}, "got 'least'"),
        ("radius: 1\nat_least: .5\n", {"at_least": 0.4}, "at_least: expected in .* or as an option, got both"),
        ("radius: 1\nat_least: .9\nat_least: .1\n", {}, "'at_least' is there 2 times"),
        ("radius: 1\nat_least: .5\nclasses: {cat: .9, 'cat': .1}\n", {}, "'cat' is there 2 times"),
        ("radius: yes\nat_least: .5\n", {}, "radius: expected a number, got True"),
        ("radius: '1'\nat_least: .5\n", {}, "radius: expected a number, got '1'"),
        ("radius: -1\nat_least: .5\n", {}, "radius: expected a finite number > 0"),
        ("radius: .inf\nat_least: .5\n", {}, "radius: expected a finite number > 0"),
        ("radius: 1\nat_least: .nan\n", {}, "at_least: expected a number above 0"),
        ("radius: 1\nat_least: .5\nmax_images: 2.5\n", {}, "max_images: expected a whole number"),
        ("radius: 1\nat_least: .5\nclasses: [cat]\n", {}, "classes: expected a share for each name"),
        ("radius: 1\nat_least: .5\nclasses: {1: .5}\n", {}, 'write it in quotes, as "1"'),
        ("radius: 1\nat_least: .5\nclasses: {cat: no}\n", {}, "classes, cat: expected a number"),
        ("radius: 1\nat_least: .5\nclasses: {cat: 2}\n", {}, "classes, cat: expected a number above 0"),
    ],
)
def test_what_cannot_be_a_policy_says_where(text, options, said, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as refused:
        read(tmp_path, text, **options)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no.yaml: expected a gate's policy"):
        read_policy(tmp_path / "no.yaml", NONE)


LABELS = (0, 1, 1, 2)
CLASSES = ("cat", "dog", "owl", "yak")
RECORDED = (107, 101, 105, 106, 103, 104, 102, 100)


def test_all_inputs_have_half_of_the_error_and_classes_the_rest() -> None:
    policy = GatePolicy(radius=1, at_least=0.9, class_at_least=0.5, classes={"dog": 0.8})
    found = [(r.group, r.at_least, r.images, r.weight) for r in requirements(policy, LABELS, CLASSES)]
    assert found == [
        (None, 0.9, 4, 0.5), (0, 0.5, 1, 1 / 6), (1, 0.8, 2, 1 / 6), (2, 0.5, 1, 1 / 6),
    ]  # fmt: skip
    (alone,) = requirements(GatePolicy(radius=1, at_least=0.9), LABELS, CLASSES)
    assert alone.weight == 1.0


@pytest.mark.parametrize(("name", "said"), [("yak", "none of them is 'yak'"), ("emu", "cat, dog, owl, yak, got 'emu'")])
def test_a_class_that_no_image_has_is_refused(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        requirements(GatePolicy(radius=1, at_least=0.9, classes={name: 0.5}), LABELS, CLASSES)


def data(contents: list[bytes]) -> DataSet:
    return DataSet(
        name="d", split="all", classes=("a",), idx=tuple(range(100, 100 + len(contents))),
        labels=(0,) * len(contents), read=contents.__getitem__,
    )  # fmt: skip


def test_the_order_is_the_seeds_whatever_the_files_is() -> None:
    """Recorded: a table goes on by it."""
    ours = data([bytes([i]) for i in range(8)])
    drawn = draw_images(ours, ours.contents(), seed=7, most=None)
    assert drawn.images.idx == RECORDED and drawn.repeated == 0
    backwards = ours.chosen(range(7, -1, -1))
    assert draw_images(backwards, backwards.contents(), seed=7, most=3).images.idx == RECORDED[:3]


def test_every_image_is_first_about_as_often_as_any_other() -> None:
    ours = data([bytes([i]) for i in range(10)])
    contents = ours.contents()
    first = [draw_images(ours, contents, seed=seed, most=1).images.idx[0] for seed in range(2_000)]
    assert all(140 < first.count(idx) < 260 for idx in ours.idx)  # 200 +- 4.5 standard deviations


def test_copies_are_left_out_and_what_cannot_be_read_is_no_copy() -> None:
    ours = data([b"a", b"a", b"b"])
    drawn = draw_images(ours, [*ours.contents()[:2], None], seed=1, most=None)
    assert (len(drawn.images), drawn.repeated) == (2, 1)
    assert draw_images(ours, [None, None, None], seed=1, most=None).repeated == 0


def test_nobody_can_say_how_many_more_without_one() -> None:
    from certify.service.core import Gate

    policy = GatePolicy(radius=1, at_least=0.9)
    gate = Gate(requirements(policy, LABELS, CLASSES), alpha=0.001, confidence=0.9)
    assert images_to_go(gate.standings()) is None
