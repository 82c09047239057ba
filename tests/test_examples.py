"""The examples run as their first lines say, from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.served import DIGITS, FASHION
from certify.models.datasets import digits_parts, digits_pixels, open_dataset
from tests.servers import real_process

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(example: str, folder: Path, *arguments: object) -> str:
    """What the example prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, EXAMPLES / example, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_statistics_alone_certify_simulated_votes(tmp_path):
    out = run("core_alone.py", tmp_path)
    assert out.startswith("class 0, certified L2 radius 0.") and out.endswith(" draws\n")


def test_a_table_becomes_a_curve(tmp_path):
    *_, row = run("curve.py", tmp_path, EXAMPLES / "digits.tsv").splitlines()
    name, certified, *_ = [cell.strip() for cell in row.strip("|").split("|")]
    assert name == "digits" and float(certified) > 0.8


def test_a_client_certifies_the_digit(tmp_path):
    with real_process(tmp_path / "log") as service:
        out = run("client.py", tmp_path, EXAMPLES / "digits" / "3.png", service.url)
    assert out.split()[0] in ("certified", "abstained")


@pytest.mark.slow
def test_networks_become_a_bundle_that_votes(tmp_path):
    for library in ("torch", "diffusers", "timm"):
        pytest.importorskip(library, reason="pip install 'certify[torch]'")
    out = run("own_bundle.py", tmp_path, tmp_path / "mine")
    votes = out.rpartition(": ")[2].strip("[]\n").split(", ")
    assert out.startswith("mine sha256:") and sum(map(int, votes)) == 64
    assert (tmp_path / "mine" / "bundle.json").exists()


def test_the_digits_are_held_out_ones():
    pytest.importorskip("sklearn", reason="pip install 'certify[train]'")
    pixels, labels = digits_pixels()
    for label, path in enumerate(DIGITS):
        with Image.open(path) as image:
            (number,) = np.flatnonzero((pixels == np.asarray(image)).all(axis=(1, 2)))
        assert labels[number] == label and number in digits_parts()["held_out"]


def test_the_clothes_are_the_first_test_image_of_each_class():
    data = open_dataset("fashion")
    assert [path.stem for path in FASHION] == [
        name.lower().replace("/", "-").replace(" ", "-") for name in data.classes
    ]
    for label, path in enumerate(FASHION):
        assert path.read_bytes() == data.read(data.labels.index(label))
