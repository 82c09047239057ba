"""ONNX classifiers at scales without a denoiser, and of each scale their own, beside those of other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("timm")
pytest.importorskip("openvino")

import torch
from numpy.typing import NDArray

from certify.models.bundle import find_bundle, load_manifest, verify
from certify.models.classifier import Classifier
from certify.models.denoiser import Denoiser
from certify.models.errors import BundleError
from certify.models.noise import add_noise, grey_steps, numpy_noise
from certify.models.noise_laws import law_of
from certify.models.runtime import load_pipeline, options_for
from tests import pictures
from tests.cli.test_cli import certify
from tests.models.classifiers import onnx_writer

DIGITS = find_bundle("digits")
IMAGE = pictures.tensor(1)
DENOISED = (f"--denoiser={DIGITS / 'denoiser'}", f"--scheduler={DIGITS / 'scheduler'}")
WEIGHTS = {
    sigma: np.random.default_rng(number).normal(size=(64, 10)).astype(np.float32)
    for number, sigma in enumerate((0.25, 1.0))
}
CASES = {  # options, and the sigmas at which ONNX stands
    "one, no denoiser": (("--classifier={0.25}", "--sigmas=0.25"), {0.25: 0.25}),
    "each, no denoiser": (
        ("--classifier=0.25={0.25}", "--classifier=1.0={1.0}", "--sigmas=0.25,1.0"),
        {0.25: 0.25, 1.0: 1.0},
    ),
    "each, one denoised": (
        ("--classifier=0.25={0.25}", "--classifier=1.0={1.0}", "--sigmas=0.25,1.0", "--no-denoiser-at=0.25", *DENOISED),
        {0.25: 0.25, 1.0: 1.0},
    ),
    "one for both, one denoised": (
        ("--classifier={1.0}", "--sigmas=0.25,1.0", "--no-denoiser-at=0.25", *DENOISED),
        {0.25: 1.0, 1.0: 1.0},
    ),
    "beside another kind": (
        (f"--classifier=0.25={DIGITS / 'classifier'}", "--classifier=1.0={1.0}", "--sigmas=0.25,1.0", *DENOISED),
        {1.0: 1.0},
    ),
    "before another kind": (
        ("--classifier=0.25={0.25}", f"--classifier=1.0={DIGITS / 'classifier'}", "--sigmas=0.25,1.0"),
        {0.25: 0.25},
    ),
}


def packed(folder: Path, options: tuple[str, ...]) -> Path:
    files = {}
    for sigma, weights in WEIGHTS.items():
        nodes: list[onnx_writer.Node] = [
            ("Flatten", ["input"], "flat", {"axis": 1}),
            ("MatMul", ["flat", "w"], "logits", {}),
        ]
        files[sigma] = onnx_writer.write(folder / f"{sigma}.onnx", nodes, {"w": weights}, [0, 1, 8, 8], [0, 10])
    given = [option.replace("{0.25}", str(files[0.25])).replace("{1.0}", str(files[1.0])) for option in options]
    code, out, err = certify("bundles", "pack", *given, "--images=digits", "--limit=4", "--out", folder / "bundle")
    assert code == 0, err
    assert "\ncost        " in out
    return folder / "bundle"


@pytest.mark.parametrize(("options", "onnx"), CASES.values(), ids=CASES)
def test_logits_are_of_the_scales_own_network_on_what_it_sees(
    options: tuple[str, ...], onnx: Mapping[float, float], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    bundle = packed(tmp_path, options)
    manifest = load_manifest(bundle)
    verify(bundle, manifest)
    assert manifest.needs_openvino
    sources = manifest.provenance["sources"]["classifier"]
    kinds = [sources["kind"]] if "kind" in sources else [source["kind"] for source in sources.values()]
    assert kinds.count("ONNX file") == len(set(onnx.values()))
    pipeline = load_pipeline(bundle, options_for(engine="openvino", bundle=bundle))

    def logits_of(seen: torch.Tensor, sigma: float) -> NDArray[np.float32]:
        if sigma in onnx:
            return seen.numpy().reshape(len(seen), -1) @ WEIGHTS[onnx[sigma]]
        with torch.inference_mode():
            return Classifier.from_folder(DIGITS / "classifier").eval()(seen).numpy()

    for sigma in manifest.sigmas:
        law = law_of("gaussian", sigma)
        noise = numpy_noise(law, 7, 0, 2, (32, 1, 8, 8))
        noisy = add_noise(law, grey_steps(IMAGE), noise, np.float32(255))
        assert noisy.min() < 0 and noisy.max() > 1
        seen = torch.from_numpy(noisy)
        if sigma in manifest.denoised_sigmas:
            with torch.inference_mode():
                seen = Denoiser.from_folder(DIGITS).eval().denoise(seen, sigma)
        expected, logits = logits_of(seen, sigma), pipeline.engine.logits(noisy, sigma)
        assert np.abs(logits - expected).max() < 1e-3 * float(np.ptp(expected))
    plain = logits_of(torch.from_numpy(IMAGE)[None], manifest.sigmas[0])
    assert pipeline.classify(IMAGE) == int(plain.argmax())


def test_torch_refuses_it_in_words(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    bundle = packed(tmp_path, CASES["before another kind"][0])
    for device in ("cpu", "cuda"):
        options = options_for(device, "torch", bundle=bundle)
        with pytest.raises(BundleError, match=f"expected openvino on a CPU .* ONNX classifier, got torch on {device}"):
            load_pipeline(bundle, options)
