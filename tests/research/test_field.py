"""Others' tables are read as they are, and their figures stand beside ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from certify.service.errors import DataError
from certify.service.research.curves import Curve
from certify.service.research.field import FIELD, compared, field_of, field_table
from certify.service.research.tables import read_table
from tests.cli.test_cli import certify

# As locuslab/smoothing (seconds), eth-sri (h:mm:ss.ffffff) and pandas write them; figures made up.
COHEN = "\n".join(
    (
        "idx\tlabel\tpredict\tradius\tcorrect\ttime",
        "0\t3\t3\t0.378\t1\t15.4",
        "20\t7\t-1\t0.0\t0\t15.6",
        "40\t4\t2\t0.341\t0\t15.7\n",
    )
)
AS_OTHERS_WRITE = {
    "seconds": COHEN,
    "hours": COHEN.replace("15.", "0:00:15."),
    "windows": COHEN.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + COHEN,
    "an empty line at the end": COHEN + "\n",
    "no line end": COHEN.rstrip("\n"),
    "pandas": COHEN.replace("\t1\t15", "\tTrue\t15").replace("\t0\t15", "\tFalse\t15").replace("\t-1\t", "\t-1.0\t"),
    "an index column": "\n".join(f"{i}\t{line}" for i, line in enumerate(COHEN.splitlines())).replace(
        "0\tidx", "\tidx"
    ),
    "no header": COHEN.partition("\n")[2],
    "spaces around": COHEN.replace("\t", " \t "),
    "another name": COHEN.replace("predict", "pred"),
    "a column more": "\n".join(f"{line}\tsaid\x85, \u2028 {at}" for at, line in enumerate(COHEN.splitlines())).replace(
        "said\x85, \u2028 0", "note"
    ),
    "whole numbers as floats": COHEN.replace("\t3\t3\t", "\t3.0\t3.0\t").replace("20\t7", "20.0\t7"),
    "words": COHEN.replace("\t1\t15", "\ttrue\t15").replace("\t0\t15", "\tfalse\t15"),
}


@pytest.mark.parametrize("form", AS_OTHERS_WRITE)
def test_a_published_table_is_read_as_it_is(form, tmp_path: Path):
    path = tmp_path / "sigma_0.25"
    path.write_bytes(AS_OTHERS_WRITE[form].encode())
    table = read_table(path)
    assert (table.idx.tolist(), table.predict.tolist(), table.correct.tolist()) == (
        [0, 20, 40], [3, -1, 2], [True, False, False],
    )  # fmt: skip
    assert table.radius.tolist() == [0.378, 0.0, 0.341] and table.outcome is None


@pytest.mark.parametrize(("old", "new"), [("0.378", "nan"), ("0.378", "inf"), ("\t3\t3\t", "\t3.5\t3\t")])
def test_what_is_no_number_is_refused_by_line_and_column(old, new, tmp_path: Path):
    (tmp_path / "t").write_text(COHEN.replace(old, new))
    with pytest.raises(DataError, match="line 2, (radius|label): expected a number"):
        read_table(tmp_path / "t")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.341\t0", "0.341\t1", "line 4: expected correct to say whether predict is label, got 2 of 4 as True"),
        ("\t-1\t0.0\t0", "\t-1\t0.0\t1", "line 3: expected correct to say"),
        ("0.378\t1", "0.378\t0", "line 2: expected correct to say"),
        ("\t0.378", "\t-0.378", "line 2: expected predict of at least -1 and radius of at least 0, got 3 and -0.378"),
        ("\t-1\t", "\t-2\t", "line 3: expected predict of at least -1"),
        ("20\t7", "99999999999999999999\t7", "line 3, idx: expected a number"),
        ("time", "radius", "expected each column once, and 'radius' is there 2 times"),
    ],
)
def test_what_contradicts_itself_is_refused(old, new, message, tmp_path: Path):
    """It would count as certified, and nobody certified it."""
    (tmp_path / "t").write_text(COHEN.replace(old, new))
    with pytest.raises(DataError, match=re.escape(message)):
        read_table(tmp_path / "t")


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    for folder in ("gaussian", "catrs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "noise_0.25.tsv").write_text(COHEN)
    code, out, err = certify("curve", tmp_path / "gaussian/noise_0.25.tsv", tmp_path / "catrs/noise_0.25.tsv")
    assert code == 0, err
    assert "| gaussian/noise_0.25 | 3 |" in out and "| catrs/noise_0.25 | 3 |" in out
    (tmp_path / "sigma_0.25").write_text(COHEN)
    assert "| sigma_0.25 | 3 |" in certify("curve", tmp_path / "sigma_0.25")[1]


def test_every_figure_stands_with_n_and_its_interval(tmp_path: Path):
    """1 of 3 right: .008 to .906 by Clopper and Pearson."""
    (tmp_path / "t.tsv").write_text(COHEN)
    code, out, _ = certify("curve", tmp_path / "t.tsv", "--radii=0,0.25")
    assert code == 0 and "| t | 3 | 0.333 (0.008 to 0.906) | 0.333 (0.008 to 0.906) | 0.1260 (" in out
    assert "exact (Clopper and Pearson)" in out
    facts = json.loads(certify("curve", tmp_path / "t.tsv", "--json")[1])
    assert facts["images"] == 3 and facts["images_expected"] is None
    assert facts["certified_accuracy_interval"]["0"] == pytest.approx([0.00840, 0.90570], abs=1e-4)
    low, high = facts["acr_interval"]
    assert low <= facts["acr"] <= high and facts["wrong_interval"] == facts["abstained_interval"]


def curve(accuracy: float, n: int, radius: float, *, policy: str = "best") -> Curve:
    correct = np.arange(n) < round(accuracy * n)
    return Curve(
        name=policy, policy=policy, sigma=None, final=None, correct=correct, abstained=~correct,
        radius=np.where(correct, radius, 0.0), samples=None,
    )  # fmt: skip


def test_it_says_who_leads_at_each_radius():
    rows = field_of("cifar10")
    at = {line.split(":")[0]: line for line in compared([curve(0.43, 100, 0.3)], rows)}
    assert "**the field leads**: best 0.430 (0.331 to 0.533), Chen et al. 2024 0.800" in at["- r = 0.25"]
    assert "**the field leads**" in at["- r = 2"] and "acr-weakness, 2024, sigma 1 0.206" in at["- r = 2"]
    better = compared([curve(0.9, 1_000, 2.5)], rows)
    assert all("**this table leads**" in line for line in better) and len(better) == 7
    assert "not told apart on 30 images" in compared([curve(0.8, 30, 2.5)], rows)[1]


def test_the_luckiest_of_ten_curves_needs_more_to_lead():
    alone, ten = ([curve(0.84, 1_000, 2.5)] * count for count in (1, 10))
    assert "**this table leads**" in compared(alone, field_of("cifar10"))[0]
    assert "not told apart" in compared(ten, field_of("cifar10"))[0]


def test_what_is_not_proved_leads_nowhere():
    published = compared([curve(0.9, 1_000, 2.5, policy="reference"), curve(0.1, 1_000, 2.5)], field_of("cifar10"))
    assert all("**the field leads**: best 0.1" in line for line in published[:6])


def test_the_fields_rows_are_tabulated():
    text = field_table(field_of("cifar10"), (0.0, 0.25, 0.5))
    assert "| Cohen et al. 2019, sigma 0.25 | 10000 | 0.804 | 0.668 | 0.505 | 0.487 |  |" in text
    assert text.count("\n") == 1 + len(FIELD["cifar10"])
    assert "| as published | n | 0 | 0.25 |" in field_table(field_of("cifar10"), (0.1,))


def test_the_command_sets_the_field_beside_a_table(tmp_path: Path):
    pytest.importorskip("matplotlib")
    (tmp_path / "t.tsv").write_text(COHEN)
    code, out, err = certify("curve", tmp_path / "t.tsv", "--field", "cifar10", "--out", tmp_path / "c.png")
    assert code == 0, err
    assert "CAT-RS" in out and "- r = 0.25: " in out and (tmp_path / "c.svg").exists()
    code, _, err = certify("curve", tmp_path / "t.tsv", "--field", "imagenet")
    assert code == 1 and "field: expected one of cifar10, got 'imagenet'" in err


def test_radii_in_another_norm_are_not_compared(tmp_path: Path):
    (tmp_path / "t.tsv").write_text(COHEN)
    (tmp_path / "t.tsv.json").write_text('{"radius_norm": "l1"}')
    code, _, err = certify("curve", tmp_path / "t.tsv", "--field", "cifar10")
    assert code == 1 and "field: expected radii in L2" in err
