"""A bundle whose classifier is asked over the network beside one that has it: packed, served, answering the same."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("openvino")

from certify.models.bundle import find_bundle, load_manifest, save_manifest
from certify.models.pack import RemoteClassifier, pack
from certify.models.remote.limits import Limits
from certify.service.answering.certify import certify as certify_picture
from certify.service.answering.schemas import CertifyFields
from certify.service.answering.seeds import key_from_number
from certify.service.backends.base import BackendInfo
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.errors import BackendUnavailable
from certify.service.settings import load_settings
from tests import pictures
from tests.cli.test_cli import certify
from tests.remote.conftest import QUICK
from tests.remote.server import ModelServer

DIGITS = find_bundle("digits")
GIVEN = json.dumps({"input": {"mean": [0.5], "std": [0.5]}})
PARTS = ("--denoiser", DIGITS / "denoiser", "--scheduler", DIGITS / "scheduler", "--sigmas=0.25,0.5")
IMAGE = pictures.tensor(1)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same networks, the classifier among them."""
    out = tmp_path_factory.mktemp("bundles") / "local"
    pack(
        denoiser=DIGITS / "denoiser", scheduler=DIGITS / "scheduler", classifier=str(DIGITS / "classifier"),
        sigmas=(0.25, 0.5), out=out,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def remote(shared_server: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed by the command, and tried on images."""
    pytest.importorskip("sklearn")
    out = tmp_path_factory.mktemp("bundles") / "remote"
    options = ("--out", out, "--classifier-url", shared_server.url, "--remote", GIVEN, "--images=digits", "--limit=16")
    code, said, err = certify("bundles", "pack", *PARTS, *options)
    assert code == 0, err
    assert load_manifest(out).digest in said and "clean accuracy on 16 images" in said
    shared_server.calls.clear()
    return out


class Scoped(EmbeddedBackend):
    """One digest and one engine's name for both bundles: seeds come from them."""

    def info(self) -> BackendInfo:
        info = super().info()
        runtime = dataclasses.replace(info.runtime, engine=info.runtime.engine.partition("+")[0])
        return dataclasses.replace(info, bundle_digest="sha256:" + "0" * 64, runtime=runtime)


@asynccontextmanager
async def opened(bundle: Path, **options: Any) -> Any:
    backend = Scoped(bundle, **{"remote": Limits(retries=QUICK), **options})
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ["openvino", "torch"])
async def test_answers_are_those_of_the_bundle_that_has_the_classifier(
    local: Path, remote: Path, server: ModelServer, engine: str
) -> None:
    settings, key = load_settings(), key_from_number(7)
    requests = [{"samples": 640}, {"samples": 640, "radius": 0.1, "sigmas": [0.25]}]
    answers, votes = [], []
    for bundle in (local, remote):
        async with opened(bundle, engine=engine) as backend:
            answers.append(
                [
                    (await certify_picture(pictures.png(number), CertifyFields(**fields), backend, settings, key))
                    for number, fields in enumerate(requests)
                ]
            )
            asked = [{"sigma": 0.5, "seed": 3, "first": first, "count": 192} for first in (0, 32, 192)]
            votes.append([(await backend.count_votes(IMAGE, **where)).tolist() for where in asked])
            votes[-1].append((await backend.chunk_votes(IMAGE, **asked[1])).tolist())
            runtime = EmbeddedBackend.info(backend).runtime
    assert runtime.engine.endswith("+remote(digits 1)") and runtime.engine.startswith(engine)
    assert votes[0] == votes[1]
    ours = [answer.model_dump(exclude={"id", "timing", "runtime", "bundle"}) for answer in answers[0]]
    assert ours == [answer.model_dump(exclude={"id", "timing", "runtime", "bundle"}) for answer in answers[1]]
    assert any(answer["outcome"] == "certified" for answer in ours)


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("denoised", ["at no scale", "at one"])
async def test_it_is_asked_about_the_noisy_pixels_where_nothing_denoises(
    server: ModelServer, tmp_path: Path, engine: str, denoised: str
) -> None:
    options: dict[str, Any] = {"sigmas": (0.25, 0.5), "input_shape": (1, 8, 8)}
    if denoised == "at one":
        parts = {"denoiser": DIGITS / "denoiser", "scheduler": DIGITS / "scheduler"}
        options = {"sigmas": (0.25, 0.5), "undenoised": (0.25,), **parts}
    far = RemoteClassifier(url=server.url, given=json.loads(GIVEN))
    votes = []
    for name, classifier in (("local", str(DIGITS / "classifier")), ("remote", far)):
        manifest, _ = pack(classifier=classifier, out=tmp_path / name, **options)
        async with opened(tmp_path / name, engine=engine) as backend:
            server.calls.clear()
            where = {"seed": 3, "first": 0, "count": 64}
            counted = [await backend.count_votes(IMAGE, sigma=sigma, **where) for sigma in (0.25, 0.5)]
            votes.append([each.tolist() for each in counted] + [await backend.classify(IMAGE)])
    assert manifest.denoised_sigmas == (() if denoised == "at no scale" else (0.5,))
    assert manifest.provenance["sources"]["classifier"] == {"kind": "over the network", "url": server.url}
    assert votes[0] == votes[1]
    seen = server.calls[0] * 0.5 + 0.5
    assert seen.min() < -0.1 and seen.max() > 1.1


@pytest.mark.anyio
async def test_pictures_are_resized_rounded_and_laid_out_as_the_endpoint_takes_them(
    server: ModelServer, tmp_path: Path
) -> None:
    """The engines agree on them but for the last bit, which rounding shows now and then."""
    assert server.metadata is not None
    images = {"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 1]}
    server.metadata = {**server.metadata, "inputs": [images]}
    far = RemoteClassifier(url=server.url, given={"input": {"kernel": "bicubic"}})
    pack(
        denoiser=DIGITS / "denoiser", scheduler=DIGITS / "scheduler", classifier=far, sigmas=(0.25,), out=tmp_path / "b"
    )
    seen = []
    for engine in ("openvino", "torch"):
        async with opened(tmp_path / "b", engine=engine) as backend:
            server.calls.clear()
            await backend.classify(IMAGE)
            await backend.count_votes(IMAGE, sigma=0.25, seed=3, first=0, count=32)
        seen.append([np.rint((pixels * 0.5 + 0.5) * 255) for pixels in server.calls])
    resized = np.asarray(Image.fromarray(IMAGE[0]).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.abs(seen[0][0][0, 0] - np.clip(np.rint(255 * resized), 0, 255)).max() <= 1
    assert [pixels.shape for pixels in seen[0]] == [(1, 1, 16, 16), (33, 1, 16, 16)]
    for ours, theirs in zip(*seen, strict=True):
        assert np.abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 0.01


@pytest.mark.anyio
async def test_no_picture_is_asked_about_that_nobody_wants(remote: Path, server: ModelServer) -> None:
    async with opened(remote) as backend:
        server.calls.clear()
        await backend.count_votes(IMAGE, sigma=0.5, seed=3, first=32, count=64)
        assert sorted(map(len, server.calls)) == [33, 33]  # halves of two micro-batches, and a known picture with each
        assert backend.width() == 1  # nothing is drawn ahead


@pytest.mark.anyio
async def test_an_endpoint_that_dies_comes_back_and_one_that_is_exchanged_does_not(
    remote: Path, server: ModelServer
) -> None:
    where = {"sigma": 0.5, "seed": 3, "first": 0, "count": 64}
    async with opened(remote) as backend:
        expected = await backend.count_votes(IMAGE, **where)
        server.lie = lambda *_: (0, {}, {})
        with pytest.raises(BackendUnavailable, match="v2/models/digits: cannot be asked: .*, tried 3 times"):
            await backend.count_votes(IMAGE, **where)
        assert not backend.outdated()
        server.lie = None
        assert (await backend.count_votes(IMAGE, **where)).tolist() == expected.tolist()
        server.version = "2"
        with pytest.raises(BackendUnavailable, match="expected version 1, as before, got 2"):
            await backend.count_votes(IMAGE, **where)
        assert backend.outdated()
        assert server.metadata is not None
        server.metadata = {**server.metadata, "versions": ["2"]}
        await backend.close()
        server.calls.clear()
        with pytest.raises(BackendUnavailable, match=r"expected versions \['1'\], got \['2'\]; pack the bundle again"):
            await backend.open()
        server.metadata = None  # and then it is left alone for a while, whatever it says
        with pytest.raises(BackendUnavailable, match=r"expected versions \['1'\], got .* \(asked again in \d s\)"):
            await backend.open()
        assert not server.calls


@pytest.mark.anyio
async def test_a_budget_outlives_closing_and_opening(remote: Path, server: ModelServer) -> None:
    async with opened(remote, remote=Limits(retries=QUICK, max_calls=7)) as backend:
        await backend.close()
        with pytest.raises(BackendUnavailable, match="budget is spent: expected at most 7 calls"):
            await backend.open()


@pytest.mark.anyio
async def test_closing_does_not_wait_for_the_endpoint(remote: Path, server: ModelServer) -> None:
    async with opened(remote) as backend:
        server.seconds = 5.0
        before = server.arrived
        long = asyncio.create_task(backend.count_votes(IMAGE, sigma=0.5, seed=3, first=0, count=640))
        while server.arrived < before + 8:  # as many as are asked at once
            await asyncio.sleep(0.01)
        await backend.close()
        with pytest.raises(BackendUnavailable, match="closed|given up"):
            await long


def test_the_command_answers_by_the_endpoint_and_says_when_it_cannot(
    remote: Path, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digit = tmp_path / "digit.png"
    digit.write_bytes(pictures.png())
    code, out, err = certify("image", digit, "--bundle", remote, "--samples=320", "--json")
    assert code == 0, err
    assert json.loads(out)["runtime"]["engine"] == "openvino-graph-1+remote(digits 1)"
    monkeypatch.setenv("CERTIFY_REMOTE_MAX_IMAGES", "100")
    code, _, err = certify("image", digit, "--bundle", remote, "--samples=320", "--json")
    assert code == 1 and "budget is spent: expected at most 100 pictures in this process" in err


def test_serving_it_needs_no_torch(remote: Path, server: ModelServer) -> None:
    code = f"""
import sys
sys.modules |= dict.fromkeys(("torch", "diffusers", "timm", "safetensors"))
import numpy as np
from certify.models.runtime import load_pipeline
pipeline = load_pipeline({str(remote)!r})
print(pipeline.votes(np.zeros((1, 8, 8), np.float32), sigma=.5, seed=1, first=0, count=32).sum())
pipeline.engine.close()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout == "32\n", done.stderr


def test_a_manifest_of_other_known_classes_is_refused(remote: Path, server: ModelServer, tmp_path: Path) -> None:
    other = Path(shutil.copytree(remote, tmp_path / "other"))
    manifest = load_manifest(other)
    known = [*manifest.remote["known"][1:], manifest.remote["known"][0]]
    save_manifest(dataclasses.replace(manifest, remote={**manifest.remote, "known": known}), other)
    digit = tmp_path / "digit.png"
    digit.write_bytes(pictures.png())
    code, _, err = certify("image", digit, "--bundle", other, "--samples=320")
    assert code == 1 and "another model than when the bundle was packed: expected the known pictures' classes" in err


WRONG_ORDERS = {
    "both": (("--classifier", DIGITS / "classifier"), "expected --classifier or --classifier-url, got both"),
    "another number of classes": (("--classes=a,b",), "classes: expected 10 names, as http"),
    "no JSON": (("--remote={",), "remote: expected JSON or @FILE"),
    "a local one's options": (("--mean=0.5",), "--mean: expected none, since --remote says how"),
    "an unknown field": (
        ('--remote={"input": {"size": [8, 8], "colour": 1}}',),
        "remote: input.colour: expected one of",
    ),
    "a lost file": (("--remote=@nowhere.json",), "remote: expected JSON or @FILE"),
}


@pytest.mark.parametrize(("options", "says"), WRONG_ORDERS.values(), ids=WRONG_ORDERS)
def test_a_wrong_order_writes_nothing(server: ModelServer, tmp_path: Path, options: Any, says: str) -> None:
    out = tmp_path / "out"
    code, _, err = certify("bundles", "pack", *PARTS, "--out", out, "--classifier-url", server.url, *options)
    assert code == 1 and says in err and not out.exists()


def test_without_a_denoiser_it_must_be_told_the_pictures_size(server: ModelServer, tmp_path: Path) -> None:
    code, _, err = certify("bundles", "pack", "--sigmas=0.25", "--out", tmp_path / "b", "--classifier-url", server.url)
    assert code == 1 and "input: expected C,H,W of the pictures" in err


def test_an_export_for_triton_is_refused(remote: Path, tmp_path: Path) -> None:
    code, _, err = certify("bundles", "export", remote, "--out", tmp_path / "repository")
    assert code == 1 and "remote: expected a classifier in the bundle, got one at http" in err
