"""`certify train RUN`, as the command calls it, at a tiny scale: every kind of run, resumed, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("accelerate", reason="training needs accelerate (pip install 'certify[train]')")
from certify.models.bundle import find_bundle, load_manifest, verify  # noqa: E402
from certify.models.errors import BundleError, CertifyError, DataError  # noqa: E402
from certify.models.runtime import load_pipeline  # noqa: E402
from certify.models.train import command, joint  # noqa: E402
from certify.models.train.config import (  # noqa: E402
    FileConfig,
    FileFinetuneConfig,
    FinetuneConfig,
    PhotoConfig,
    TrainConfig,
)
from certify.models.train.runs import find_run, named_runs  # noqa: E402
from certify.models.train.stage import CheckpointError  # noqa: E402


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run, with two steps."""

    def find(name: str) -> Any:
        small = {"steps": 2, "batch": 8, "warmup_steps": 1, "checkpoint_every": 1}
        config = find_run(name)
        return dataclasses.replace(config, **small, **({"log_every": 1} if isinstance(config, TrainConfig) else {}))

    monkeypatch.setattr(command, "find_run", find)


def test_every_run_is_known_by_its_name_and_trained_by_its_type() -> None:
    kinds = {name: type(config) for name, config in named_runs().items()}
    assert kinds == {
        "digits": TrainConfig,
        "digits_brier": FinetuneConfig,
        "digits_brier_anti": FinetuneConfig,
        "digits_classifier": FinetuneConfig,
        "digits_cross_entropy": FinetuneConfig,
        "cifar10": FileConfig,
        "cifar10_brier_anti": FileFinetuneConfig,
        "cifar10_cpu": FileConfig,
        "fashion": FileConfig,
        "fashion_cpu": FileConfig,
        "photo": PhotoConfig,
    }
    digits = find_run("digits")
    assert isinstance(digits, TrainConfig) and isinstance(find_run(digits.finetune), FinetuneConfig)
    cifar10 = find_run("cifar10")
    assert isinstance(cifar10, FileConfig) and cifar10.finetune is not None
    goes_on = find_run(cifar10.finetune)
    assert isinstance(goes_on, FileFinetuneConfig) and goes_on.tune_images == cifar10.tune_images


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ("mnist", {}, r"run: expected one of cifar10, cifar10_brier_anti, .*, got 'mnist'"),
        ("digits", {"data": Path("x")}, "data: expected none, since digits learns from the digits"),
        ("digits", {"bundle": "digits"}, "bundle: expected none, since digits begins from nothing; got digits"),
        ("digits", {"limit": 0}, "limit: expected at least 1, got 0"),
        ("digits", {"threads": -1}, "threads: expected at least 1, got -1"),
        ("cifar10_cpu", {}, r"data: expected a folder with train\.npz or another train part, which cifar10_cpu"),
        (
            "cifar10_brier_anti",
            {},
            r"data: expected a folder with train\.npz or another train part, which cifar10_brier",
        ),
        ("photo", {}, "data: expected a folder of photographs, which photo learns from, got none"),
        ("photo", {"data": Path("x"), "out": Path("y")}, "out: expected none, since photo ends as WORK/denoiser"),
        ("photo", {"data": Path("nowhere")}, "nowhere: expected a folder of pictures, got none"),
        ("cifar10_cpu", {"data": Path("x"), "seed": 1}, "seed: expected none, since cifar10_cpu ends as WORK/bundle"),
        ("cifar10_cpu", {"data": Path("x"), "out": Path("y")}, "out: expected none, since cifar10_cpu ends as"),
        ("cifar10_cpu", {"data": Path("nowhere")}, "got 'nowhere', and there is no such file"),
        ("digits_brier", {"data": Path("x")}, "data: expected none, since digits_brier learns from the digits"),
    ],
)
def test_a_wrong_argument_is_refused_in_words(run: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        command.train_run(run, **arguments)


def test_a_bundle_of_other_images_and_a_full_folder_are_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cifar10: provenance\.split: expected 'digits-60-15-25-v1'"):
        command.train_run("digits_brier", bundle="cifar10", work=tmp_path / "work")
    with pytest.raises(BundleError, match="expected a shipped bundle"):
        command.train_run("digits_brier", bundle="nothing", work=tmp_path / "work")
    (tmp_path / "notes").touch()
    for run in ("digits", "digits_brier"):
        with pytest.raises(BundleError, match="expected a folder that is empty"):
            command.train_run(run, out=tmp_path, work=tmp_path / "work")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_from_nothing_it_ends_with_a_plain_bundle_and_does_nothing_twice(tmp_path: Path, capsys) -> None:
    command.train_run("digits", work=tmp_path, limit=64, seed=5)
    assert "step 2/2" in capsys.readouterr().err
    manifest = load_manifest(tmp_path / "bundle")
    verify(tmp_path / "bundle", manifest)
    assert (manifest.name, manifest.thresholds, manifest.final) == ("digits_plain", (0.5,) * 3, "plurality")
    assert manifest.provenance["command"] == "certify train digits --seed 5"
    assert dict(manifest.figures) == {}
    votes = load_pipeline(tmp_path / "bundle").votes(
        np.zeros((1, 8, 8), np.float32), sigma=0.25, seed=0, first=0, count=32
    )
    assert votes.sum() == 32
    command.train_run("digits", work=tmp_path, limit=64, seed=5)
    assert "step" not in capsys.readouterr().err.replace("2 steps", "")
    assert load_manifest(tmp_path / "bundle").digest == manifest.digest
    with pytest.raises(CheckpointError, match="seed: expected 6, got 5"):
        command.train_run("digits", work=tmp_path, limit=64, seed=6)
    assert issubclass(CheckpointError, CertifyError)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_finetuning_ends_with_a_bundle_that_names_its_origin(tmp_path: Path) -> None:
    command.train_run("digits_classifier", work=tmp_path / "work", out=tmp_path / "out", limit=64, bundle="digits")
    manifest, start = load_manifest(tmp_path / "out"), load_manifest(find_bundle("digits"))
    verify(tmp_path / "out", manifest)
    assert manifest.name == "digits_classifier" and manifest.provenance["finetuned_from"] == start.digest
    assert manifest.provenance["finetuned_by"] == "certify train digits_classifier --seed 0"
    assert (manifest.sigmas, manifest.thresholds) == (start.sigmas, start.thresholds)


@pytest.mark.slow
def test_joint_training_learns_and_its_rates_are_the_recipes(tmp_path: Path) -> None:
    from certify.models.train import stage
    from certify.models.train.data import digits_split, load_digits

    config = find_run("digits")
    assert isinstance(config, TrainConfig)
    assert (config.beta2, config.ema, config.batch, config.learning_rate) == (0.99, 0.999, 256, 2e-3)
    assert stage._rate(0, config) == pytest.approx(1 / 200) and stage._rate(2000, config) == pytest.approx(0.505)
    assert stage._rate(3999, config) == pytest.approx(0.01, abs=1e-4)
    lines: list[str] = []
    digits, train = load_digits(), digits_split().train
    images, labels = torch.from_numpy(digits.images[train]), torch.from_numpy(digits.labels[train])
    short = dataclasses.replace(config, steps=60, batch=64, warmup_steps=10, log_every=20)
    joint.train(short, images, labels, classes=10, log=lines.append)
    first, _, last = (dict(zip(line.split()[4::2], map(float, line.split()[5::2]), strict=True)) for line in lines)
    assert all(last[name] < 0.8 * first[name] for name in ("total", "denoising", "classification"))
    assert last["right"] > first["right"]


@pytest.mark.slow
def test_several_processes_train_one_bundle(tmp_path: Path) -> None:
    """As `accelerate launch -m certify train digits_brier` does on several GPUs; here two processes on the CPU."""
    script = tmp_path / "script.py"
    script.write_text(
        "import dataclasses, sys\n"
        "from pathlib import Path\n"
        "from certify.models.train import command\n"
        "whole = command.find_run\n"
        "small = dict(steps=2, batch=8, warmup_steps=1, checkpoint_every=1)\n"
        "command.find_run = lambda name: dataclasses.replace(whole(name), **small)\n"
        "for run in ('digits', 'digits_brier'):\n"
        "    command.train_run(run, work=Path(sys.argv[1]) / run, limit=64)\n"
    )
    # What `accelerate launch --multi_gpu` itself calls; without a GPU it would start one process.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for run in ("digits", "digits_brier"):
        verify(tmp_path / run / "bundle", load_manifest(tmp_path / run / "bundle"))
    assert done.stderr.count("wrote ") == 2  # by one of the two
