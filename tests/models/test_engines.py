"""models.engines: the same function on every engine, to the precision that its dtype states."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("openvino", reason="needs openvino (pip install 'certify[cpu]')")
from certify.models import engines  # noqa: E402
from certify.models.bundle import find_bundle, load_manifest  # noqa: E402
from certify.models.engine_torch import TorchEngine  # noqa: E402
from certify.models.errors import BundleError  # noqa: E402
from certify.models.networks import Graph  # noqa: E402
from certify.models.pipeline import Pipeline  # noqa: E402
from certify.models.runtime import load_pipeline, options_for  # noqa: E402
from certify.models.traceable import traced  # noqa: E402
from tests import pictures  # noqa: E402
from tests.models import openai_shaped  # noqa: E402

SCALES = (0.12, 0.25, 0.5)


def noisy(sigma: float, count: int = 64) -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    image = generator.random((1, 1, 8, 8), dtype=np.float32)
    noise = generator.standard_normal((count, 1, 8, 8), dtype=np.float32)
    return np.asarray(image + np.float32(sigma) * noise)


def logits(pipeline: Pipeline, sigma: float, of: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    engine = pipeline.engine
    return engine.fetch(engine.logits(engine.place(noisy(sigma) if of is None else of), sigma))


def in_float32(engine: str) -> Pipeline:
    return load_pipeline("digits", dataclasses.replace(options_for(engine=engine), dtype="float32"))


@pytest.fixture(scope="module")
def torch_pipeline() -> Pipeline:
    return in_float32("torch")


@pytest.fixture(scope="module")
def openvino_pipeline() -> Pipeline:
    return in_float32("openvino")


@pytest.mark.parametrize("sigma", SCALES)
def test_openvinos_float32_logits_are_torchs(torch_pipeline: Pipeline, openvino_pipeline: Pipeline, sigma: float):
    """1e-3 of logits that span 20: sums in another order, in float32 all the way."""
    ours, theirs = (logits(p, sigma) for p in (openvino_pipeline, torch_pipeline))
    assert ours.dtype == np.float32
    assert np.allclose(ours, theirs, atol=1e-3)
    assert np.ptp(theirs) > 5  # the comparison is of something


def test_the_classifier_alone_is_torchs(torch_pipeline: Pipeline, openvino_pipeline: Pipeline):
    image = np.full((1, 8, 8), 0.2, dtype=np.float32)
    assert openvino_pipeline.classify(image) == torch_pipeline.classify(image)


def test_votes_do_not_depend_on_the_number_of_streams():
    image = pictures.tensor(1)
    labels = [
        load_pipeline("digits", options_for(engine="openvino", workers=workers))
        .labels(image, sigma=0.5, seed=3, first=0, count=512)
        .tolist()
        for workers in (1, 2, 3)
    ]
    assert labels[0] == labels[1] == labels[2]


def test_a_bfloat16_bundle_says_what_really_ran(openvino_pipeline: Pipeline):
    """bfloat16 where the CPU has it, else float32; either way the logits are near the float32 ones."""
    assert load_manifest(find_bundle("digits")).dtype == "bfloat16"
    half = load_pipeline("digits", options_for(engine="openvino"))
    assert half.engine.dtype in ("bfloat16", "float32")
    assert openvino_pipeline.engine.dtype == "float32"
    a, b = (logits(p, 0.25) for p in (half, openvino_pipeline))
    assert np.array_equal(a, b) == (half.engine.dtype == "float32")
    assert np.allclose(a, b, atol=0.05 * float(np.abs(b).max()))


def test_openvinos_own_group_norm_reaches_no_compiler():
    """It kills the process where the timestep scales what it gives, as in OpenAI's networks."""
    import openvino

    unet = openai_shaped.unet().eval()
    graph = OneOutput(unet)
    example = (torch.randn(2, 3, 8, 8), *(torch.ones(2) for _ in range(3)))
    model = openvino.convert_model(
        traced(graph, example), example_input=example, input=[list(x.shape) for x in example]
    )
    assert "GroupNormalization" not in {node.get_type_name() for node in model.get_ops()}
    for precision in (openvino.Type.f32, openvino.Type.bf16):  # where the CPU has no bfloat16, both are float32
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        (ours,) = compiled([x.numpy() for x in example]).values()
        with torch.inference_mode():
            theirs = graph(*example)
        exact = compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
        assert torch.allclose(torch.from_numpy(ours), theirs, atol=1e-5 if exact else 0.05)
        assert float(theirs.std()) > 0.1


class OneOutput(torch.nn.Module):
    """The UNet with a graph's arguments."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor) -> Any:
        return self.unet(noisy, timestep, return_dict=False)[0] + 0 * (signal + noise)[:, None, None, None]


def test_the_default_engine_is_openvino_on_a_cpu_and_torch_elsewhere(monkeypatch: pytest.MonkeyPatch):
    assert options_for("cpu").engine == "openvino-graph-1"
    assert options_for("cuda").engine == "torch"
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert options_for("cpu").engine == "torch"


@pytest.mark.parametrize(("device", "engine"), [("cpu", "onnx"), ("cuda", "openvino")])
def test_an_engine_that_there_is_not_is_refused(device: str, engine: str):
    with pytest.raises(BundleError, match="engine: expected"):
        options_for(device, engine)


def test_a_missing_openvino_is_named(monkeypatch: pytest.MonkeyPatch):
    from certify.models import runtime

    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(BundleError, match="openvino is not installed here"):
        load_pipeline("digits", options_for(engine="openvino"))


def test_one_call_may_have_a_scale_for_each_image(torch_pipeline: Pipeline):
    """As batches across requests need: each image's logits are those it has in a batch of its own scale."""
    engine = torch_pipeline.engine
    assert isinstance(engine, TorchEngine)
    denoiser, classifier = engine.networks.at(0.5)
    assert denoiser is not None
    graph = Graph(denoiser, classifier)
    sigmas = np.array([0.12, 0.5] * 32)
    constants = [torch.as_tensor(value) for value in denoiser.constants(sigmas)]
    with torch.inference_mode():
        mixed = graph(torch.from_numpy(noisy(0.25)), *constants).numpy()
    apart = [logits(torch_pipeline, sigma, of=noisy(0.25)) for sigma in (0.12, 0.5)]
    assert np.allclose(mixed[::2], apart[0][::2], atol=1e-4)
    assert np.allclose(mixed[1::2], apart[1][1::2], atol=1e-4)


@pytest.mark.parametrize("sigma", SCALES)
def test_engines_show_the_same_denoised_picture(torch_pipeline: Pipeline, sigma: float) -> None:
    image = pictures.tensor()
    seen = {}
    for pipeline in (torch_pipeline, in_float32("openvino")):
        noisy_one, denoised = pipeline.pictures(image, sigma=sigma, seed=5, count=3)
        assert denoised is not None and denoised.shape == (3, 1, 8, 8)
        assert denoised.min() >= 0.0 and denoised.max() <= 1.0
        seen[pipeline.engine.name] = noisy_one, denoised
    (noise, one), (other_noise, other) = seen.values()
    assert np.array_equal(noise, other_noise)
    np.testing.assert_allclose(one, other, atol=1e-4)
