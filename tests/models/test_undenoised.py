"""Scales without a denoiser: votes of the classifier on the noisy pixels, and one classifier for each scale.

As Cohen, Rosenfeld and Kolter (2019) have it, and those after them who train on noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("diffusers")
pytest.importorskip("timm")
pytest.importorskip("openvino")

import timm
import timm.models
import torch
from numpy.typing import NDArray

from certify.models.bundle import GRAPH, find_bundle, load_manifest, verify
from certify.models.classifier import Classifier
from certify.models.denoiser import Denoiser
from certify.models.engines import ENGINES
from certify.models.errors import BundleError
from certify.models.noise import add_noise, grey_steps, numpy_noise
from certify.models.noise_laws import law_of
from certify.models.pack import pack
from certify.models.runtime import load_pipeline, options_for
from certify.service.research.tables import read_table
from certify.service.research.votes_file import load_votes
from tests import pictures
from tests.cli.test_cli import certify
from tests.models.conftest import changed

DIGITS = find_bundle("digits")
IMAGE = pictures.tensor(1)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Mapping[float, Path]:
    """A classifier for each of two scales."""
    folder, made = tmp_path_factory.mktemp("classifiers"), {}
    for number, sigma in enumerate((0.25, 1.0)):
        torch.manual_seed(number)
        net = timm.create_model("test_resnet", in_chans=1, num_classes=10)
        net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.25,)}
        made[sigma] = folder / str(number)
        config = {"model_args": {"in_chans": 1}}
        timm.models.save_for_hf(net, str(made[sigma]), model_config=config, safe_serialization=True)
    return made


@pytest.fixture(scope="module")
def bundles(others: Mapping[float, Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    one = [f"--classifier={DIGITS / 'classifier'}"]
    each = [f"--classifier={sigma}={path}" for sigma, path in others.items()]
    with_one = [f"--denoiser={DIGITS / 'denoiser'}", f"--scheduler={DIGITS / 'scheduler'}", "--no-denoiser-at=0.25"]
    for name, options in {
        "cohen": (*one, "--sigmas=0.25", "--final=threshold"),
        "each": (*each, "--sigmas=0.25,1.0"),
        "each-mixed": (*each, *with_one, "--sigmas=0.25,1.0"),
    }.items():
        code, _, err = certify("bundles", "pack", *options, "--out", folder / name)
        assert code == 0, err
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "folders", "denoised", "timesteps"),
    [
        ("cohen", {"classifier"}, (False,), 0),
        ("each", {"classifiers/0.25", "classifiers/1.0"}, (False, False), 0),
        ("each-mixed", {"classifiers/0.25", "classifiers/1.0", "denoiser", "scheduler"}, (False, True), 1),
    ],
)
def test_a_bundle_has_the_networks_that_its_scales_need_and_no_other(
    name: str, folders: set[str], denoised: tuple[bool, ...], timesteps: int, bundles: Mapping[str, Path]
) -> None:
    manifest = load_manifest(bundles[name])
    verify(bundles[name], manifest)
    assert {str(Path(file).parent) for file in manifest.sources} == folders
    assert (manifest.format, manifest.denoised, len(manifest.timesteps)) == (3, denoised, timesteps)
    extra = "scheduler/scheduler_config.json" if "scheduler" not in folders else "classifiers/0.5/config.json"
    without = {file: digest for file, digest in manifest.files.items() if not file.endswith("/config.json")}
    for files in ({**manifest.files, extra: "0" * 64}, without):
        with pytest.raises(BundleError, match="files: expected"):
            changed(manifest, files=files)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["cohen", "each", "each-mixed"])
def test_votes_are_of_the_noisy_pixels_where_nothing_denoises(
    name: str, engine: str, bundles: Mapping[str, Path], others: Mapping[float, Path]
) -> None:
    """Put together here by hand, unclipped, at a batch of 64; the plain classifier is the finest scale's."""
    manifest = load_manifest(bundles[name])
    pipeline = load_pipeline(bundles[name], options_for(engine=engine))
    for sigma in manifest.sigmas:
        net = Classifier.from_folder(others[sigma] if "each" in name else DIGITS / "classifier").float().eval()
        law = law_of("gaussian", sigma)
        noise = numpy_noise(law, 7, 0, 2, (32, 1, 8, 8))
        noisy = torch.from_numpy(add_noise(law, grey_steps(IMAGE), noise, np.float32(255)))
        assert float(noisy.min()) < 0 and float(noisy.max()) > 1
        with torch.inference_mode():
            denoises = sigma in manifest.denoised_sigmas
            seen = Denoiser.from_folder(DIGITS).float().eval().denoise(noisy, sigma) if denoises else noisy
            expected = net(seen).numpy()
            plain = int(net(torch.from_numpy(IMAGE)[None]).argmax())
        logits = pipeline.engine.fetch(pipeline.engine.logits(pipeline.engine.place(noisy.numpy()), sigma))
        assert np.abs(logits - expected).max() < 1e-4 * max(1.0, float(np.ptp(expected)))
        labels = pipeline.labels(IMAGE, sigma=sigma, seed=7, first=0, count=64)
        assert np.mean(labels == expected.argmax(axis=1)) > 0.98
        if sigma == manifest.sigmas[0]:
            assert pipeline.classify(IMAGE) == plain


def test_the_digest_covers_where_it_denoises(bundles: Mapping[str, Path]) -> None:
    manifest = load_manifest(bundles["each-mixed"])
    assert changed(manifest, denoised=(True, False)).digest != manifest.digest
    plain = load_manifest(bundles["cohen"])
    for denoised in ((False, True), (True,), (0,), (None,)):
        with pytest.raises(BundleError, match=r"denoised: expected 1 of true and false, not all true, or none"):
            changed(plain, denoised=denoised)
    with pytest.raises(BundleError, match="timesteps: expected 1 values >= 0, one of each denoised sigma"):
        changed(manifest, timesteps=(*manifest.timesteps, 1.0))


def test_the_graph_of_classifiers_alone_takes_images(bundles: Mapping[str, Path]) -> None:
    from certify.models.graph import load_openvino

    model = load_openvino().Core().read_model(bundles["each"] / GRAPH[0])
    assert [port.get_any_name() for port in model.inputs] == ["images"]
    assert sorted(port.get_any_name() for port in model.outputs) == ["logits_0.25", "logits_1.0"]


def test_an_upgrade_keeps_what_is_not_there(bundles: Mapping[str, Path], tmp_path: Path) -> None:
    import shutil

    from certify.models.upgrade import upgrade

    copy = Path(shutil.copytree(bundles["each-mixed"], tmp_path / "copy"))
    assert upgrade(copy) == load_manifest(bundles["each-mixed"])


def test_an_export_has_its_files_and_runs_from_them(bundles: Mapping[str, Path], tmp_path: Path) -> None:
    code, _, err = certify("bundles", "export", bundles["each-mixed"], "--out", tmp_path / "repository")
    assert code == 0, err
    exported = tmp_path / "repository" / "mdds" / "1" / "bundle"
    votes = [
        load_pipeline(folder).votes(IMAGE, sigma=1.0, seed=3, first=0, count=64).tolist()
        for folder in (exported, bundles["each-mixed"])
    ]
    assert votes[0] == votes[1]


def locuslab(
    selection: NDArray[np.int64], estimation: NDArray[np.int64], sigma: float, alpha: float
) -> tuple[int, float]:
    """CERTIFY of Cohen, Rosenfeld and Kolter (2019), algorithm 1, from votes of n0 and of n samples: (class, radius).

    -1 abstains. As locuslab/smoothing computes it, whose proportion_confint(..., method="beta") is Clopper and
    Pearson's interval.
    """
    guess = int(selection.argmax())
    successes, samples = int(estimation[guess]), int(estimation.sum())
    share = float(stats.beta.ppf(alpha, successes, samples - successes + 1)) if successes else 0.0
    return (-1, 0.0) if share < 0.5 else (guess, sigma * float(stats.norm.ppf(share)))


def test_one_scales_table_is_locuslabs_on_the_same_votes(bundles: Mapping[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out, votes = tmp_path / "table.tsv", tmp_path / "votes.npz"
    code, _, err = certify(
        "dataset", "digits", "--bundle", bundles["cohen"], "--policy=single", "--samples=1024", "--alpha=0.001",
        "--limit=24", "--seed=5", "--out", out, "--votes", votes,
    )  # fmt: skip
    assert code == 0, err
    table, drawn = read_table(out), load_votes(votes)
    rows = dict(zip(table.idx.tolist(), zip(table.predict.tolist(), table.radius.tolist(), strict=True), strict=True))
    found = [rows[idx] for idx in drawn.idx.tolist()]
    expected = [
        locuslab(selection[0], estimation[0].sum(axis=0), 0.25, 0.001)
        for selection, estimation in zip(drawn.pilot, drawn.votes, strict=True)
    ]
    assert [label for label, _ in found] == [label for label, _ in expected]
    for (_, radius), (_, exact) in zip(found, expected, strict=True):
        assert exact - 2e-6 <= radius <= math.nextafter(exact, 9)  # six decimals, rounded down
    assert len({label for label, _ in found}) > 3 and -1 in table.predict.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-denoiser-at=0.12"], "no-denoiser-at: expected some of the sigmas 0.25,1.0, got 0.12"),
        (["--no-denoiser-at=0.25,1.0"], "denoiser: expected none, since no-denoiser-at has every sigma"),
        (["--input=3,8,8"], "input: expected 1,8,8, as the denoiser takes, got 3,8,8"),
        (["--input=1,8"], "input: expected C,H,W with a C of 1 or 3, and sides of at most 4096, got 1,8"),
        (["--classifier=0.5=there"], "classifier: expected one, or SIGMA=PATH of each sigma, got"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    code, _, err = certify(
        "bundles", "pack", "--denoiser", DIGITS / "denoiser", "--scheduler", DIGITS / "scheduler",
        "--classifier", DIGITS / "classifier", "--sigmas=0.25,1.0", "--out", tmp_path / "out", *options,
    )  # fmt: skip
    assert code == 1 and message in err and not (tmp_path / "out").exists()


def test_classifiers_of_other_scales_or_of_other_classes_are_refused(
    others: Mapping[float, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        BundleError, match=r"classifier: expected one, or one of each sigma 0\.25,1\.0, got them of 0\.25"
    ):
        pack(classifier={0.25: str(others[0.25])}, sigmas=(0.25, 1.0), out=tmp_path / "a")
    net = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.25,)}
    timm.models.save_for_hf(
        net, str(tmp_path / "three"), model_config={"model_args": {"in_chans": 1}}, safe_serialization=True
    )
    with pytest.raises(BundleError, match=r"three: expected 10 outputs, as .* has, got 3"):
        pack(
            classifier={0.25: str(others[0.25]), 1.0: str(tmp_path / "three")}, sigmas=(0.25, 1.0), out=tmp_path / "b"
        )  # fmt: skip


def test_images_are_tried_without_a_denoiser_too(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    code, out, err = certify(
        "bundles", "pack", "--classifier", DIGITS / "classifier", "--denoiser", DIGITS / "denoiser", "--scheduler",
        DIGITS / "scheduler", "--no-denoiser-at=0.12", "--sigmas=0.12,0.5", "--out", tmp_path / "a", "--images=digits",
    )  # fmt: skip
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| 0.")]
    assert [(row[0], row[4] == "") for row in rows] == [("0.12", True), ("0.5", False)]
