"""models.runtime: what is loaded is what was checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="needs openvino (pip install 'certify[cpu]')")

from certify.models import runtime
from certify.models.bundle import find_bundle
from certify.models.errors import BundleError
from certify.models.runtime import RuntimeOptions, load_pipeline


def test_a_bundle_that_is_replaced_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(find_bundle("digits"), folder)
    engine = runtime._engine

    def read_of_another(place: Path, *rest: object) -> object:
        (place / "graph" / "graph.bin").write_bytes((place / "graph" / "graph.bin").read_bytes() + b"\0")
        return engine(place, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime, "_engine", read_of_another)
    with pytest.raises(BundleError, match=r"graph\.bin: sha256"):
        load_pipeline(folder, RuntimeOptions(device="cpu", engine=runtime.OPENVINO, micro_batch=64))
