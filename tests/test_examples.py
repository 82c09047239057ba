"""The examples run as their first lines say, from another folder."""

from __future__ import annotations

import os
import re
import shutil
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


def run(example: str | Path, folder: Path, *arguments: object) -> str:
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


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")
    from certify.service.answering.signing import new_key

    folder = tmp_path_factory.mktemp("service")
    (folder / "key.pem").write_text(new_key())
    with real_process(folder / "log", signing_key_file=folder / "key.pem") as process:
        yield process


def test_a_client_certifies_the_digit(service, tmp_path):
    assert run("client.py", tmp_path, DIGITS[3], service.url).startswith("certified ")


def test_the_page_of_the_client_runs_as_it_stands(service, tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```$", (EXAMPLES.parent / "docs" / "client.md").read_text(), re.M | re.S)
    shutil.copytree(EXAMPLES / "digits", tmp_path / "examples/digits")
    example = tmp_path / "page.py"
    example.write_text(code.replace("http://127.0.0.1:8000", service.url))
    assert run(example, tmp_path).startswith("certified ")


def test_a_client_certifies_a_folder(service, tmp_path):
    for digit in DIGITS[:3]:
        shutil.copy(digit, tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    lines = run("many.py", tmp_path, tmp_path, service.url).splitlines()
    assert sorted(Path(line.split(".png ")[0]).name for line in lines) == ["0", "1", "2", "broken"]
    assert sum(" certified 0." in line for line in lines) == 3


def test_a_client_watches_a_radius_grow(service, tmp_path):
    *progress, answer = run("watch.py", tmp_path, DIGITS[3], service.url).splitlines()
    radii = [float(line.rpartition(" ")[2]) for line in progress]
    assert radii == sorted(radii) and answer == f"certified {radii[-1]}"


def test_a_certificate_is_kept_and_holds(service, tmp_path):
    assert run("certificate.py", tmp_path, DIGITS[3], tmp_path / "c.json", service.url).startswith("certified ")
    command = [sys.executable, "-m", "certify", "verify", "c.json", "--image", DIGITS[3]]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True).returncode == 0


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
