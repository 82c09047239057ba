"""Clients that generators make of /openapi.json: without a warning, and they work. Each error is a typed object."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certify.service.backends.fake import FakeBackend
from certify.service.http.app import create_app
from certify.service.settings import load_settings
from tests import pictures
from tests.servers import ROOT, InProcess, in_process, real_process

pytestmark = pytest.mark.slow

GENERATOR = "openapi-python-client==0.29.1"
IMAGE = pictures.png()
# Nothing listens there: a gateway that waits for its backend.
NO_TRITON = "127.0.0.1:1"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(create_app(load_settings(backend="fake"), FakeBackend()).openapi()))
    return path


@pytest.fixture(scope="module")
def generated(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The package that openapi-python-client makes, from an environment of its own: it wants an older typer."""
    place = tmp_path_factory.mktemp("python")
    (place / "config.yaml").write_text("post_hooks: []\n")  # it would format what it wrote
    python = place / "env" / "bin" / "python"
    assert run(sys.executable, "-m", "venv", str(place / "env"), cwd=place).returncode == 0
    install = run(str(python), "-m", "pip", "install", "--quiet", GENERATOR, cwd=place)
    if "NewConnectionError" in install.stderr:
        pytest.skip(f"{GENERATOR}: pip reaches no registry")
    assert install.returncode == 0, install.stderr[-2000:]
    command = [str(python), "-m", "openapi_python_client", "generate", "--path", str(document), "--meta", "none"]
    done = run(*command, "--config", "config.yaml", "--output-path", "certify_generated", cwd=place)
    printed = done.stdout + done.stderr
    assert done.returncode == 0 and "arning" not in printed, printed
    sys.path.insert(0, str(place))
    yield "certify_generated"
    sys.path.remove(str(place))


class Generated:
    """The generated client, on an application in this process."""

    def __init__(self, package: str, service: InProcess) -> None:
        self.service = service
        self.models = importlib.import_module(f"{package}.models")
        self.types = importlib.import_module(f"{package}.types")
        self._certify = importlib.import_module(f"{package}.api.default.certify")
        self._client = importlib.import_module(f"{package}.client").Client(base_url="http://certify")
        self._client.set_async_httpx_client(service.client)

    async def form(self, image: bytes = IMAGE, **fields: Any) -> Any:
        file = self.types.File(payload=io.BytesIO(image), file_name="a.png", mime_type="image/png")
        return await self._ask(self.models.CertifyForm(image=file, **fields))

    async def json(self, image: bytes = IMAGE, **fields: Any) -> Any:
        return await self._ask(self.models.CertifyJson(image=base64.b64encode(image).decode(), **fields))

    async def _ask(self, body: Any) -> Any:
        return (await self._certify.asyncio_detailed(client=self._client, body=body)).parsed


@pytest.mark.anyio
async def test_a_python_client_is_answered_and_reads_every_answer_as_a_type(generated: str) -> None:
    async with in_process(max_body_bytes=50_000, max_running=1, max_queued=0) as service:
        client = Generated(generated, service)
        models = client.models
        fields = {"samples": 2000, "radius": 0.2, "sigmas": [1.0, 0.5], "threshold": [0.5], "resize": True}
        norm = {"norm": models.CertifyFormNorm.L2, "final": models.CertifyFormFinal.PLURALITY}
        by_form, by_json = await client.form(**fields, **norm), await client.json(**fields | {"threshold": 0.5})
        assert isinstance(by_form, models.CertifyAnswer)
        assert by_form.radius == by_json.radius and by_form.stages == by_json.stages
        assert by_form.outcome.value in ("certified", "below_radius", "abstained")

        problem = await client.form(samples=1)
        assert isinstance(problem, models.UnprocessableContentProblem) and problem.status == 422
        assert (problem.code.value, problem.field) == ("budget_too_small", "samples")
        assert isinstance(await client.form(samples=problem.min_samples), models.CertifyAnswer)
        assert (await client.json(radius=50.0)).max_radius > 0
        assert (await client.json(sigmas=[0.3])).sigmas == [0.25, 0.5, 1.0]
        assert (await client.form(pictures.png(size=(9, 8)))).expected_width == 8
        assert (await client.form(samples=10**6)).max_samples == 100_000

        assert isinstance(await client.form(threshold=[0.5] * 100), models.BadRequestProblem)  # of too many parts
        too_large = await client.form(bytes(60_000))
        assert isinstance(too_large, models.ContentTooLargeProblem) and too_large.max_body_bytes == 50_000
        assert isinstance(await client.form(b"no image"), models.UnsupportedMediaTypeProblem)
        service.backend.delay_seconds = 3600
        assert isinstance(await client.form(deadline_ms=20), models.GatewayTimeoutProblem)
        waiting = asyncio.create_task(client.form())
        while service.backend.running == 0:
            await asyncio.sleep(0.001)
        assert isinstance(await client.form(), models.TooManyRequestsProblem)
        waiting.cancel()
        await asyncio.wait([waiting])
        service.backend.delay_seconds, service.backend.failing = 0, True
        assert isinstance(await client.form(), models.ServiceUnavailableProblem)
        service.backend.failing = False
        object.__setattr__(service.gateway, "seed_key", "not bytes")
        assert isinstance(await client.form(), models.InternalServerErrorProblem)


@pytest.mark.anyio
async def test_a_python_client_without_its_key_reads_so(generated: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"camera {'0' * 64} 1000 1\n")
    async with in_process(api_keys_file=str(tmp_path / "keys")) as service:
        client = Generated(generated, service)
        assert isinstance(await client.form(), client.models.UnauthorizedProblem)


@pytest.fixture(scope="module")
def program(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/http/typescript/program.ts with its types from the document, compiled."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    place = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(ROOT / "tests" / "http" / "typescript", place)
    install = run("npm", "ci", "--no-fund", "--no-audit", cwd=place)
    lost = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")
    if install.returncode and any(why in install.stderr for why in lost):
        pytest.skip("npm reaches no registry")
    assert install.returncode == 0, install.stderr[-2000:]
    made = run("npx", "openapi-typescript", str(document), "--output", "api.d.ts", cwd=place)
    assert made.returncode == 0 and "warn" not in (made.stdout + made.stderr).lower(), made.stdout + made.stderr
    compiled = run("npx", "tsc", "--project", ".", cwd=place)
    assert compiled.returncode == 0, compiled.stdout
    return place / "program.js"


def test_a_typescript_client_compiles_strictly_and_reads_every_answer(program: Path, tmp_path: Path) -> None:
    keys = [("camera", "k1", 1_000_000), ("poor", "k2", 3_000)]
    (tmp_path / "keys").write_text(
        "".join(f"{name} {hashlib.sha256(key.encode()).hexdigest()} {samples} 4\n" for name, key, samples in keys)
    )
    flags = {"api_keys_file": tmp_path / "keys", "max_body_bytes": 50_000}
    with real_process(tmp_path / "log", **flags) as service:
        with real_process(tmp_path / "waiting", backend="triton", triton_url=NO_TRITON) as waiting:
            (tmp_path / "digit.png").write_bytes(IMAGE)
            done = run("node", str(program), service.url, waiting.url, str(tmp_path / "digit.png"), cwd=program.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["200", "200", "400", "401", "413", "415", "422", "429", "503", "504"]


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
