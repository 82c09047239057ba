"""A bundle as a Triton model repository: whole, repeatable, and never over somebody's files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the export reads what runs the network (pip install 'certify[torch]')")

from certify.models.bundle import find_bundle, load_manifest
from certify.models.errors import BundleError
from certify.models.export import export

DIGITS = find_bundle("digits")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def facts(repository: Path) -> dict:
    text = (repository / "mdds" / "config.pbtxt").read_text()
    value = text.split("string_value: ")[1].split(" } } ]")[0]
    return json.loads(json.loads(value))


def test_equal_inputs_give_equal_bytes_and_a_second_export_replaces_the_first(tmp_path):
    export(DIGITS, tmp_path / "a", instances=2)
    export(DIGITS, tmp_path / "b", instances=1)
    assert contents(tmp_path / "a") != contents(tmp_path / "b")
    export(DIGITS, tmp_path / "b", instances=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]  # nothing half done is left beside them


def test_the_configuration_says_what_the_manifest_says(tmp_path):
    export(DIGITS, tmp_path / "cpu", instances=3)
    export(DIGITS, tmp_path / "gpu", device="cuda")
    manifest, cpu, gpu = load_manifest(DIGITS), facts(tmp_path / "cpu"), facts(tmp_path / "gpu")
    assert (cpu["sigmas"], cpu["thresholds"]) == (list(manifest.sigmas), list(manifest.thresholds))
    assert cpu["bundle"] == {"name": "digits", "version": manifest.version, "digest": manifest.digest}
    assert (cpu["instances"], gpu["instances"]) == (3, 1)
    assert cpu["identity"] != gpu["identity"]  # another device may vote otherwise
    assert "kind: KIND_CPU count: 3" in (tmp_path / "cpu" / "mdds" / "config.pbtxt").read_text()
    assert "kind: KIND_GPU count: 1" in (tmp_path / "gpu" / "mdds" / "config.pbtxt").read_text()


def test_the_identity_does_not_depend_on_how_many_processes_run_it(tmp_path):
    export(DIGITS, tmp_path / "a", instances=1)
    export(DIGITS, tmp_path / "b", instances=4)
    assert facts(tmp_path / "a")["identity"] == facts(tmp_path / "b")["identity"]


def test_the_micro_batch_is_part_of_the_identity_and_must_fit_the_chunk(tmp_path):
    export(DIGITS, tmp_path / "a", instances=1)
    export(DIGITS, tmp_path / "b", instances=1, micro_batch=128)
    a, b = facts(tmp_path / "a"), facts(tmp_path / "b")
    assert (a["grain"], b["grain"]) == (64, 128)
    assert a["identity"] != b["identity"]
    for bad in (-64, 48):
        with pytest.raises(ValueError, match=f"micro_batch: expected a multiple of 32, got {bad}"):
            export(DIGITS, tmp_path / "c", micro_batch=bad)


def test_the_exported_model_needs_nothing_of_the_service(tmp_path):
    export(DIGITS, tmp_path / "r", instances=1)
    version = tmp_path / "r" / "mdds" / "1"
    code = (
        "from pathlib import Path; from certify.models.runtime import load_pipeline;"
        "import sys; load_pipeline(Path('bundle')); assert 'certify.service' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=version, check=True, timeout=120)
    copied = {path.stem for path in (version / "certify" / "models").iterdir()}
    assert not copied & {"datasets", "export", "pack", "pack_sources", "pack_trial", "train", "write"}


def test_somebodys_files_are_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="expected a folder that is empty or not there yet, or what an earlier run"):
        export(DIGITS, tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_an_altered_bundle_is_not_exported(tmp_path):
    shutil.copytree(DIGITS, tmp_path / "bundle")
    victim = next(path for path in (tmp_path / "bundle").rglob("*.safetensors"))
    with victim.open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(BundleError):
        export(tmp_path / "bundle", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"instances": 0}])
def test_wrong_arguments_are_named(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}: expected"):
        export(DIGITS, tmp_path / "out", **wrong)
