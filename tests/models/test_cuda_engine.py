"""models.engines.CudaEngine, as far as a machine without a CUDA device goes, and on one the whole of it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from certify.models import engine_torch  # noqa: E402
from certify.models.bundle import find_bundle, load_manifest  # noqa: E402
from certify.models.engine_torch import CudaEngine, TorchEngine  # noqa: E402
from certify.models.networks import load_networks  # noqa: E402
from certify.models.pipeline import Pipeline  # noqa: E402
from certify.models.runtime import load_pipeline, options_for  # noqa: E402

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
IMAGE = np.random.default_rng(1).random((1, 8, 8), dtype=np.float32)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The CUDA engine's own code on a CPU, not compiled: its thread, its noise, its layout."""
    monkeypatch.setattr(engine_torch.torch, "compile", lambda module, **_: module)
    folder = find_bundle("digits")
    manifest = load_manifest(folder)
    engine = CudaEngine(load_networks(folder, manifest), dtype="float32", device="cpu")
    return Pipeline(engine, manifest, micro_batch=64)


def test_its_votes_are_torchs_over_the_devices_noise(pipeline: Pipeline):
    """Logit for logit, over the same noise: the layout and the thread change nothing but the last bits."""
    folder = find_bundle("digits")
    plain = TorchEngine(load_networks(folder, load_manifest(folder)), dtype="float32")
    noise = pipeline.engine.noise(seed=5, first=2, count=2, shape=(32, 1, 8, 8))
    noisy = torch.from_numpy(IMAGE) + 0.25 * noise
    assert torch.allclose(pipeline.engine.logits(noisy, 0.25), plain.logits(noisy, 0.25), atol=1e-3)
    labels = pipeline.labels(IMAGE, sigma=0.25, seed=5, first=64, count=64)
    assert labels.tolist() == pipeline.engine.logits(noisy, 0.25).argmax(dim=1).tolist()


def test_it_can_be_called_from_any_thread(pipeline: Pipeline):
    alone = pipeline.votes(IMAGE, sigma=0.5, seed=1, first=0, count=128).tolist()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(pipeline.votes(IMAGE, sigma=0.5, seed=1, first=0, count=128)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [votes.tolist() for votes in found] == [alone] * 4


@needs_cuda
def test_on_a_device_votes_repeat_and_come_near_the_cpus():
    """The same stream twice, in other pieces, gives the same votes; the shares are those of the CPU's noise."""
    cuda = load_pipeline("digits", options_for("cuda"))
    whole = cuda.labels(IMAGE, sigma=0.5, seed=1, first=0, count=4096)
    parts = [cuda.labels(IMAGE, sigma=0.5, seed=1, first=at, count=1024) for at in range(0, 4096, 1024)]
    assert whole.tolist() == np.concatenate(parts).tolist()
    cpu = load_pipeline("digits").labels(IMAGE, sigma=0.5, seed=1, first=0, count=4096)
    shares = [np.bincount(labels, minlength=10) / 4096 for labels in (whole, cpu)]
    assert np.abs(shares[0] - shares[1]).max() < 5 * np.sqrt(0.25 / 4096) * np.sqrt(2)
