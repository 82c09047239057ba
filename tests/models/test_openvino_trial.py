"""models.openvino_trial: OpenVINO runs a bundle in a child first, and what comes of it decides what runs here."""

from __future__ import annotations

import json
import pwd
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino", reason="needs openvino (pip install 'certify[cpu]')")
from certify.models import openvino_trial as trial
from certify.models.bundle import find_bundle
from certify.models.errors import BundleError
from certify.models.noise import numpy_noise
from certify.models.noise_laws import law_of
from certify.models.runtime import RuntimeOptions, load_pipeline, options_for
from certify.service.backends.embedded import EmbeddedBackend
from tests import pictures
from tests.models.openai_shaped import write_bundle

# What OpenVINO's compiler dies of: the networks as they are, with its own group norm. In float32: bfloat16, which is
# its choice on a processor that has it, compiles.
CRASH = """
import sys
sys.modules["openvino_telemetry"] = None
import openvino, torch
from torch import nn

class ScaleShift(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(8, 32)

    def forward(self, x, scale):
        return self.norm(x) * (1 + scale)

example = (torch.ones(2, 32, 1, 1), torch.ones(2, 32, 1, 1))
traced = torch.jit.trace(ScaleShift().eval(), example)
model = openvino.convert_model(traced, example_input=example, input=[[2, 32, 1, 1]] * 2)
openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
"""


@pytest.fixture(scope="module")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("openai"), dtype=request.param)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "certify" / "openvino"


def without_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts one gets this from it."""
    monkeypatch.setattr(trial, "RUN", "sys.exit('a child was started')")


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["float32", "bfloat16"], indirect=True)
def test_a_network_as_openais_is_tried_once_and_votes_as_in_torch(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing it was the trial."""
    without_children(monkeypatch)
    options = options_for(bundle=bundle)
    assert options.engine == "openvino-graph-1"
    image = pictures.tensor(0, (3, 8, 8))
    found, expected = load_pipeline(bundle, options), load_pipeline(bundle, RuntimeOptions(dtype="float32"))
    noisy = image + numpy_noise(law_of("gaussian", 0.5), 1, 0, 2, (32, 3, 8, 8)) / 255
    ours, theirs = (p.engine.fetch(p.engine.logits(p.engine.place(noisy), 0.5)) for p in (found, expected))
    exact = found.engine.dtype == "float32"
    assert np.allclose(ours, theirs, atol=1e-4 if exact else 0.05 * float(np.abs(theirs).max()))
    assert float(theirs.std(axis=0).max()) > 1e-3  # the noise reaches the logits
    if exact:
        votes = [p.votes(image, sigma=0.5, seed=1, first=0, count=256).tolist() for p in (found, expected)]
        assert votes[0] == votes[1]


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["float32"], indirect=True)
def test_a_compiler_that_crashes_ends_the_child_alone_and_torch_runs_instead(
    bundle: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The crash is OpenVINO's own, on another graph; from there on all is as for a bundle that it crashes on."""
    (tmp_path / "crash.py").write_text(CRASH)
    monkeypatch.setattr(trial, "RUN", f"import runpy; runpy.run_path({str(tmp_path / 'crash.py')!r})")
    assert options_for(bundle=bundle).engine == "torch"
    assert "openvino cannot: a child process that tried it ended by SIGSEGV" in caplog.text
    without_children(monkeypatch)  # it is known now
    with pytest.raises(BundleError, match="engine: expected auto or torch, got openvino, .* SIGSEGV"):
        options_for(engine="openvino", bundle=bundle)
    assert load_pipeline(bundle).engine.name == "torch"


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["float32"], indirect=True)
async def test_the_service_reports_what_runs(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RUN", "import os; os.abort()")
    backend = EmbeddedBackend(bundle, workers=1)
    await backend.open()
    try:
        assert backend.info().runtime.engine == "torch"
    finally:
        await backend.close()
    with pytest.raises(BundleError, match="SIGABRT"):
        await EmbeddedBackend(bundle, engine="openvino").open()


@pytest.mark.parametrize(
    ("child", "refusal", "kept"),
    [
        ("", None, True),
        (f"sys.exit({trial.NOT_REACHED})", None, False),  # its files are wrong: whoever loads it says so
        (f"sys.stderr.write('no such operator'); sys.exit({trial.FAILED})", "no such operator", True),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV", True),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL", False),  # memory, or somebody who stops processes
        ("raise OSError('disk')", "OSError: disk", False),
    ],
)
def test_what_a_child_says_is_kept_if_it_would_say_it_again(
    child: str, refusal: str | None, kept: bool, paper_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "RUN", child)
    for _ in range(2):
        found = trial.refusal(paper_bundle, micro_batch=64)
        assert found is None if refusal is None else refusal in found
    assert cache.exists() == kept and (not kept or len(list(cache.iterdir())) == 1)
    if kept:
        without_children(monkeypatch)
        assert trial.refusal(paper_bundle, micro_batch=64) == found
        another = trial.refusal(paper_bundle, micro_batch=128)  # another graph
        assert another is not None and another.endswith("a child was started")


def test_a_spoiled_verdict_is_replaced(paper_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RUN", "")
    trial.refusal(paper_bundle, micro_batch=64)
    (verdict,) = cache.iterdir()
    for spoiled in ("{", "[]", "{}", '"x"'):
        verdict.write_text(spoiled)
        assert trial.refusal(paper_bundle, micro_batch=64) is None
        assert json.loads(verdict.read_text())["bundle"].startswith("sha256:")


def test_without_a_place_to_write_it_is_tried_each_time(
    paper_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(trial, "RUN", f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})")
    assert "SIGILL" in str(trial.refusal(paper_bundle, micro_batch=64))
    monkeypatch.setattr(trial, "RUN", "")
    assert trial.refusal(paper_bundle, micro_batch=64) is None


@pytest.mark.parametrize("base", [None, "", "relative"])
def test_without_a_home_nothing_is_written_anywhere(
    base: str | None, paper_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a container's user that /etc/passwd does not know."""

    def unknown(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("XDG_CACHE_HOME") if base is None else monkeypatch.setenv("XDG_CACHE_HOME", base)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(trial, "RUN", "")
    assert trial.refusal(paper_bundle, micro_batch=64) is None
    assert not list(work.iterdir())


def test_files_that_are_not_the_manifests_are_not_tried(paper_bundle: Path, cache: Path) -> None:
    (paper_bundle / "classifier" / "model.safetensors").write_text("others")
    with pytest.raises(BundleError, match="sha256: expected"):
        trial.refusal(paper_bundle, micro_batch=64)
    assert not cache.exists()


def test_shipped_bundles_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    without_children(monkeypatch)
    assert trial.refusal(find_bundle("digits"), micro_batch=64) is None
