"""A bundle small enough for unit tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.models.bundle import Manifest, file_digests, save_manifest


@pytest.fixture
def paper_bundle(tmp_path: Path) -> Path:
    """A well-formed bundle folder whose weights are not weights: for the manifest and its digests."""
    folder = tmp_path / "paper"
    for name in (
        "denoiser/config.json",
        "denoiser/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "classifier/config.json",
        "classifier/model.safetensors",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"contents of {name}")
    save_manifest(
        Manifest(
            name="paper",
            version="1",
            classes=("a", "b"),
            input_shape=(1, 8, 8),
            sigmas=(0.25, 0.5),
            thresholds=(0.5, 0.9),
            final="plurality",
            files=file_digests(folder),
            preprocessing={"pixels": "uint8 / 255"},
        ),
        folder,
    )
    return folder


def changed(manifest: Manifest, **fields: object) -> Manifest:
    """The manifest with other fields; checked again."""
    return dataclasses.replace(manifest, **fields)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="session")
def verdicts_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What models.openvino_trial keeps does not outlive the tests, and nothing that it kept before decides them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
