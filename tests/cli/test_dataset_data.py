"""`certify dataset` on data as people have them: files that cannot be used, other sizes, labels that are numbers."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certify.models.datasets import open_dataset
from certify.service.answering.images import decode_image
from certify.service.research.crops import center_cropped
from certify.service.research.tables import read_table
from certify.service.research.votes_file import load_votes
from tests import pictures
from tests.cli.test_cli import certify
from tests.servers import real_process

FAKE = ("--backend=fake", "--seed=1", "--samples=640")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of each class one image that can be used and one that cannot, and a file that is none."""
    spoilt = {"0": pictures.png()[:60], "1": pictures.animation("GIF"), "2": pictures.png_bomb(16_000, 16_000)}
    for number, (name, content) in enumerate(spoilt.items()):
        (tmp_path / "data" / name / "deep").mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(content)
        (tmp_path / "data" / name / "deep" / "b.bmp").write_bytes(pictures.encoded(pictures.gray(number), "BMP"))
    os.symlink(tmp_path / "nowhere.png", tmp_path / "data" / "2" / "c.png")
    (tmp_path / "data" / "readme.txt").write_text("no image")
    return tmp_path / "data"


def outcomes(path: Path) -> list[tuple[str, str]]:
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [(row["outcome"], row["reason"]) for row in (dict(zip(header, line, strict=True)) for line in lines)]


INVALID = {0: "image_undecodable", 2: "image_unreadable", 4: "image_too_many_pixels", 5: "image_unreadable"}


def test_an_image_that_cannot_be_used_is_a_row_and_the_others_are_certified(folder: Path, tmp_path: Path) -> None:
    out, votes = tmp_path / "t.tsv", tmp_path / "v.npz"
    code, shown, err = certify("dataset", folder, "--out", out, *FAKE, "--limit=3")
    assert code == 0 and "2 images could not be used" in err, err
    code, shown, err = certify("dataset", folder, "--out", out, *FAKE)  # and it goes on
    assert code == 0, err
    rows = outcomes(out)
    assert {at: reason for at, (outcome, reason) in enumerate(rows) if outcome == "invalid"} == INVALID
    assert len(rows) == 7 and all(rows[at][0] != "invalid" for at in (1, 3, 6))
    table = read_table(out)
    assert [(table.predict[at], table.radius[at], table.correct[at]) for at in INVALID] == [(-1, 0, False)] * 4
    facts = json.loads((tmp_path / "t.tsv.json").read_text())
    assert facts["skipped"] == {"in no class's folder": 1}
    assert set(facts["invalid"]) == set(map(str, INVALID))
    assert "c.png: cannot be read" in facts["invalid"]["5"] and "expected one frame, got 2" in facts["invalid"]["2"]
    assert "skipped: 1 (in no class's folder)" in err and "4 images could not be used" in err

    code, _, err = certify("dataset", folder, "--out", tmp_path / "w.tsv", *FAKE, f"--votes={votes}")
    assert code == 0 and load_votes(votes).idx.tolist() == [1, 3, 6], err
    votes.unlink()
    code, _, err = certify("dataset", folder, "--out", tmp_path / "w.tsv", *FAKE, f"--votes={votes}")
    assert code == 0 and load_votes(votes).idx.tolist() == [1, 3, 6], err


@pytest.mark.slow
def test_a_service_refuses_the_same_images(folder: Path, tmp_path: Path) -> None:
    with real_process(tmp_path / "log") as service:
        code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", "--url", service.url, "--samples=640")
    assert code == 0, err
    rows = outcomes(tmp_path / "t.tsv")
    assert {at: reason for at, (outcome, reason) in enumerate(rows) if outcome == "invalid"} == INVALID


def photographs(folder: Path) -> Path:
    for number, size in enumerate(((20, 10), (9, 31), (8, 8), (8, 11))):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "a.png").write_bytes(pictures.png(number, size=size))
    return folder


def test_resize_squashes_as_a_request_does_or_takes_the_centre(tmp_path: Path) -> None:
    data = photographs(tmp_path / "data")
    for kind in ("squash", "center-crop"):
        code, _, err = certify("dataset", data, "--out", tmp_path / f"{kind}.tsv", *FAKE, f"--resize={kind}")
        assert code == 0, err
    squashed, cropped = (json.loads((tmp_path / f"{kind}.tsv.json").read_text()) for kind in ("squash", "center-crop"))
    assert (squashed["resize"], cropped["resize"], cropped["crop"]) == (True, False, "center")
    assert "crop" not in squashed and squashed["data_digest"] == open_dataset(str(data)).digest()
    assert squashed["run"] != cropped["run"] and squashed["data_digest"] != cropped["data_digest"]
    files = [data / str(number) / "a.png" for number in range(4)]
    code, out, _ = certify("image", *files, *FAKE, "--resize", "--json")
    radii = [json.loads(line)["radius"] for line in out.splitlines()]
    assert code == 0 and read_table(tmp_path / "squash.tsv").radius.tolist() == radii
    code, _, err = certify("dataset", data, "--out", tmp_path / "none.tsv", *FAKE)
    assert code == 1 and "expected 8 x 8 pixels, got 20 x 10" in err


@pytest.mark.parametrize("size", [(20, 10), (9, 31), (8, 8), (500, 333), (33, 64), (7, 8), (641, 480)])
def test_the_centre_is_torchvisions(size: tuple[int, int], tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for side in (8, 32):
        theirs = transforms.CenterCrop(side)(transforms.Resize(side, transforms.InterpolationMode.BICUBIC)(image))
        data = pictures.encoded(image)
        ours = decode_image(data, (3, side, side), resize=True, crop=True, max_pixels=2**20).tensor
        assert (np.round(ours * 255).transpose(1, 2, 0) == np.asarray(theirs)).all()


def test_the_cropped_file_is_the_certified_picture(tmp_path: Path) -> None:
    data = open_dataset(str(photographs(tmp_path / "data")))
    for shape in ((1, 8, 8), (3, 8, 6)):
        cropped = center_cropped(data, shape)
        for position in range(len(data)):
            seen = decode_image(cropped.read(position), shape, resize=False, max_pixels=64).tensor
            wanted = decode_image(data.read(position), shape, resize=True, crop=True, max_pixels=2**20).tensor
            assert (seen == wanted).all()
            assert Image.open(io.BytesIO(cropped.read(position))).size == (shape[2], shape[1])
