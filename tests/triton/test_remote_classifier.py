"""A real Triton that has the digits classifier alone, asked by a bundle without one, over gRPC and over HTTP."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the served model needs torch (pip install 'certify[torch]')")
pytest.importorskip("openvino")

from certify.models.bundle import find_bundle, load_manifest, save_manifest
from certify.models.pack import RemoteClassifier, pack
from certify.models.remote.limits import Limits
from certify.models.remote.packing import declare
from certify.models.triton.server import TritonServer, free_ports
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.errors import BackendUnavailable
from tests import pictures
from tests.remote.conftest import QUICK

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

DIGITS = find_bundle("digits")
IMAGE = pictures.tensor(1)
GIVEN = {"input": {"mean": [0.5], "std": [0.5]}}
MODEL = f"""
import numpy as np
import timm
import torch
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        torch.set_num_threads(1)
        self.net = timm.create_model("local-dir:{DIGITS / "classifier"}", pretrained=True).eval()

    def execute(self, requests):
        answers = []
        for request in requests:
            pictures = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "images"))
            padded = np.zeros((64, 1, 8, 8), np.float32)
            padded[:len(pictures)] = pictures
            with torch.inference_mode():
                logits = self.net(torch.from_numpy(padded))[:len(pictures)].contiguous()
            tensor = pb_utils.Tensor.from_dlpack("logits", logits)
            answers.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return answers
"""
CONFIG = """
name: "digits"
backend: "python"
max_batch_size: 64
input [ { name: "images" data_type: TYPE_FP32 dims: [ 1, 8, 8 ] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] } ]
version_policy: { latest { num_versions: 2 } }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "repository"
    (folder / "digits" / "1").mkdir(parents=True)
    (folder / "digits" / "config.pbtxt").write_text(CONFIG)
    (folder / "digits" / "1" / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def http_port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def server(
    repository: Path, triton_home: Path, http_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    arguments = (
        "--allow-http=true", "--http-address", "127.0.0.1", "--http-port", str(http_port),
        "--model-control-mode=poll", "--repository-poll-secs=1",
    )  # fmt: skip
    log = tmp_path_factory.mktemp("server") / "log"
    with TritonServer(repository, log=log, home=triton_home, arguments=arguments) as started:
        yield started


@pytest.fixture(scope="module")
def remote(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that asks the server over gRPC."""
    return packed(
        RemoteClassifier(url=f"grpc://{server.url}/digits", given=GIVEN), tmp_path_factory.mktemp("b") / "grpc"
    )


def packed(classifier: str | RemoteClassifier, out: Path) -> Path:
    parts: dict[str, Any] = {"denoiser": DIGITS / "denoiser", "scheduler": DIGITS / "scheduler"}
    pack(**parts, classifier=classifier, sigmas=(0.25, 0.5), out=out)
    return out


async def votes(bundle: Path) -> list[list[int]]:
    backend = EmbeddedBackend(bundle, remote=Limits(retries=QUICK))
    await backend.open()
    try:
        asked = [{"sigma": sigma, "seed": 2**64 - 1, "first": 32, "count": 640} for sigma in (0.25, 0.5)]
        found = [(await backend.count_votes(IMAGE, **where)).tolist() for where in asked]
        assert backend.info().runtime.engine.endswith("+remote(digits 1)") == bool(load_manifest(bundle).remote)
        return found
    finally:
        await backend.close()


async def test_votes_are_those_of_the_bundle_that_has_the_classifier(
    remote: Path, http_port: int, tmp_path: Path
) -> None:
    expected = await votes(packed(str(DIGITS / "classifier"), tmp_path / "local"))
    assert await votes(remote) == expected
    by_http = Path(shutil.copytree(remote, tmp_path / "http"))
    url = f"http://127.0.0.1:{http_port}/v2/models/digits/versions/1"
    field, names = declare(url, GIVEN, (1, 8, 8), None, Limits(retries=QUICK))
    assert names == tuple("0123456789")
    save_manifest(dataclasses.replace(load_manifest(remote), remote=field.as_json()), by_http)
    assert await votes(by_http) == expected


async def test_another_version_is_another_model_and_a_server_that_ends_is_an_error(
    remote: Path, server: TritonServer, repository: Path
) -> None:
    backend = EmbeddedBackend(remote, remote=Limits(retries=QUICK))
    await backend.open()
    where = {"sigma": 0.5, "seed": 1, "first": 0, "count": 64}
    try:
        expected = (await backend.count_votes(IMAGE, **where)).tolist()
        (repository / "digits" / "2").mkdir()
        (repository / "digits" / "2" / "model.py").write_text(MODEL)
        with pytest.raises(BackendUnavailable, match="another model than when the bundle was packed: expected version"):
            while True:  # until the server has loaded it
                assert (await backend.count_votes(IMAGE, **where)).tolist() == expected
        assert backend.outdated()
        await backend.close()
        server.kill()
        with pytest.raises(BackendUnavailable, match=f"grpc://{server.url}/digits: answered UNAVAILABLE"):
            await backend.open()
    finally:
        await backend.close()
