"""models.bundle: what it accepts, what it refuses, and what its digest covers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certify.models.bundle import (
    GRAPH,
    Manifest,
    file_digests,
    find_bundle,
    list_bundles,
    load_manifest,
    save_manifest,
    verify,
)
from certify.models.errors import BundleError
from tests.models.conftest import changed


def rewrite(folder: Path, **fields: Any) -> None:
    """Edit bundle.json by hand, as somebody without our tools would."""
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_saved_manifest_reads_back_equal_and_its_files_verify(paper_bundle: Path) -> None:
    manifest = load_manifest(paper_bundle)
    verify(paper_bundle, manifest)
    save_manifest(manifest, paper_bundle)
    assert load_manifest(paper_bundle) == manifest


def test_one_flipped_bit_in_any_file_is_found_and_named(paper_bundle: Path) -> None:
    manifest = load_manifest(paper_bundle)
    for name in manifest.files:
        path = paper_bundle / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleError, match=f"{name}: sha256: expected {manifest.files[name]}"):
            verify(paper_bundle, manifest)
        path.write_bytes(whole)
    verify(paper_bundle, manifest)


def test_a_missing_file_is_named(paper_bundle: Path) -> None:
    (paper_bundle / "classifier/model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"classifier/model\.safetensors: no such file"):
        verify(paper_bundle, load_manifest(paper_bundle))


def test_a_pickle_beside_the_weights_is_refused(paper_bundle: Path) -> None:
    (paper_bundle / "classifier/pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(BundleError, match=r"pytorch_model\.bin: bundle\.json does not list this file"):
        verify(paper_bundle, load_manifest(paper_bundle))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sigmas", [0.5, 0.25]),
        ("sigmas", []),
        ("sigmas", [0.25, "x"]),
        ("sigmas", [-0.25, 0.5]),
        ("thresholds", [0.5]),
        ("thresholds", [0.4, 0.5]),
        ("thresholds", [0.5, 1.0]),
        ("final", "majority"),
        ("dtype", "float16"),
        ("chunk", 0),
        ("chunk", 32.0),
        ("classes", ["a"]),
        ("classes", ["a", "a"]),
        ("classes", "ab"),
        ("input_shape", [8, 8]),
        ("input_shape", [1, 8, 0]),
        ("files", {}),
        ("name", ""),
        ("format", 2),
        ("digest", "sha256:" + "0" * 64),
    ],
)
def test_a_bad_field_is_refused_with_the_file_and_the_field_named(paper_bundle: Path, field: str, value: Any) -> None:
    rewrite(paper_bundle, **{field: value})
    with pytest.raises(BundleError, match=rf"bundle\.json: {field}") as refused:
        load_manifest(paper_bundle)
    assert "expected" in str(refused.value)


def test_unknown_and_missing_fields_are_refused(paper_bundle: Path) -> None:
    rewrite(paper_bundle, colour="blue")
    with pytest.raises(BundleError, match="colour"):
        load_manifest(paper_bundle)
    body = json.loads((paper_bundle / "bundle.json").read_text())
    del body["colour"], body["version"]
    (paper_bundle / "bundle.json").write_text(json.dumps(body))
    with pytest.raises(BundleError, match="version"):
        load_manifest(paper_bundle)


@pytest.mark.parametrize("name", ["b\n", "\x1b[31mb", "b\x85"])
def test_a_class_whose_name_a_terminal_would_obey_is_refused(paper_bundle: Path, name: str) -> None:
    rewrite(paper_bundle, classes=["a", name])
    with pytest.raises(BundleError, match="classes: expected names without control characters"):
        load_manifest(paper_bundle)


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/passwd", "denoiser/weights.bin", "elsewhere/a.json", "graph/other.xml", "graph/a.json"],
)
def test_files_outside_the_model_folders_or_of_another_kind_cannot_be_listed(paper_bundle: Path, name: str) -> None:
    manifest = load_manifest(paper_bundle)
    with pytest.raises(BundleError, match="files"):
        changed(manifest, files={**manifest.files, name: "0" * 64})


def test_a_graph_comes_whole_with_its_format_and_a_timestep_of_each_sigma() -> None:
    folder = find_bundle("digits")
    manifest = load_manifest(folder)
    assert (manifest.format, manifest.has_graph, len(manifest.timesteps)) == (2, True, 3)
    assert set(manifest.files) == {*manifest.sources, *GRAPH}
    half = {name: digest for name, digest in manifest.files.items() if name != GRAPH[1]}
    bare = {name: manifest.files[name] for name in manifest.sources}
    for fields, message in (
        ({"files": half}, "files: expected graph/graph.xml and graph/graph.bin, or neither"),
        ({"files": bare}, "timesteps: expected none without a graph, got"),
        ({"timesteps": ()}, "timesteps: expected 3 values >= 0, one of each denoised sigma, got"),
        ({"timesteps": (1.0, -1.0, 2.0)}, "timesteps: expected 3 values >= 0"),
        ({"timesteps": (1.0, float("nan"), 2.0)}, "timesteps: expected 3 values >= 0"),
    ):
        with pytest.raises(BundleError, match=message):
            changed(manifest, **fields)
    older = changed(manifest, files=bare, timesteps=())
    assert older.format == 1
    assert changed(manifest, timesteps=(1.0, 2.0, 3.0)).digest != manifest.digest != older.digest


@pytest.mark.parametrize(
    ("name", "declared", "message"),
    [("digits", 1, "expected 2 by the other fields, got 1"), ("paper", 2, "expected 1 by the other fields, got 2")],
)
def test_a_format_that_is_not_the_bundles_is_refused(
    name: str, declared: int, message: str, paper_bundle: Path, tmp_path: Path
) -> None:
    folder = paper_bundle if name == "paper" else Path(shutil.copytree(find_bundle(name), tmp_path / name))
    rewrite(folder, format=declared)
    with pytest.raises(BundleError, match=f"format: {message}"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("files", {"": "0" * 64}), ("sigmas", [10**400]), ("preprocessing", {"scale": float("nan")})],
)
def test_what_no_field_can_hold_is_a_bad_bundle(paper_bundle: Path, field: str, value: Any) -> None:
    if field == "files":
        value = {**load_manifest(paper_bundle).files, **value}
    rewrite(paper_bundle, **{field: value})
    with pytest.raises(BundleError, match=r"bundle\.json: "):
        load_manifest(paper_bundle)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(paper_bundle: Path, text: str) -> None:
    (paper_bundle / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json: expected"):
        load_manifest(paper_bundle)


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": ("a", "c")},
        {"input_shape": (1, 8, 9)},
        {"sigmas": (0.25, 0.75)},
        {"thresholds": (0.5, 0.8)},
        {"final": "threshold"},
        {"chunk": 64},
        {"dtype": "bfloat16"},
        {"preprocessing": {"pixels": "uint8 / 256"}},
    ],
)
def test_the_digest_changes_with_whatever_changes_votes_or_certificates(
    paper_bundle: Path, fields: dict[str, Any]
) -> None:
    manifest = load_manifest(paper_bundle)
    assert changed(manifest, **fields).digest != manifest.digest


def test_the_digest_changes_with_a_file_and_stays_with_figures_and_prose(paper_bundle: Path) -> None:
    manifest = load_manifest(paper_bundle)
    prose: Manifest = changed(manifest, name="x", version="9", provenance={"by": "me"}, figures={"acr": 1.0})
    assert prose.digest == manifest.digest
    (paper_bundle / "denoiser/config.json").write_text("{}")
    assert changed(manifest, files=file_digests(paper_bundle)).digest != manifest.digest


def test_bundles_are_found_by_name_and_by_path(paper_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "digits" in list_bundles()
    assert find_bundle(paper_bundle) == paper_bundle
    monkeypatch.chdir(paper_bundle.parent)
    shutil.copytree(paper_bundle, "digits")
    assert load_manifest(find_bundle("digits")).name == "digits"  # the shipped one, not the folder of that name
    assert find_bundle("./digits") == Path("digits")
    with pytest.raises(BundleError, match=r"nowhere: expected a shipped bundle \(.*digits.*\) or a folder"):
        find_bundle("nowhere")


def test_the_shipped_bundles_are_whole() -> None:
    for name in list_bundles():
        folder = find_bundle(name)
        verify(folder, load_manifest(folder))


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, certify.models.bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


OTHER_NOISE = [
    (["laplace", "laplace"], "l1"),
    (["gaussian", "uniform"], "l1"),
    (["splitting", "splitting"], "l1"),
    (["gaussian", "gaussian"], "l2"),
    ([], "l1"),
]


@pytest.mark.parametrize(("noise", "norm"), OTHER_NOISE)
def test_other_noise_is_read_and_changes_the_digest(paper_bundle: Path, noise: list[str], norm: str) -> None:
    before = load_manifest(paper_bundle)
    fresh = changed(before, noise=tuple(noise), norm=norm)
    assert fresh.format == 3
    assert fresh.digest != before.digest
    save_manifest(fresh, paper_bundle)
    assert load_manifest(paper_bundle) == fresh


@pytest.mark.parametrize(
    ("noise", "norm", "message"),
    [
        (("laplace",), "l1", "noise: expected one of .*for each of 2 sigmas"),
        (("laplace", "cauchy"), "l1", "noise: expected one of"),
        (("laplace", ["uniform"]), "l1", "noise: expected one of"),
        ("laplace", "l1", "noise: expected one of"),
        (("laplace",) * 2, "l2", "norm: expected l1, the only norm of other noise"),
        (("gaussian", "uniform"), "l2", "norm: expected l1"),
        (("laplace", "splitting"), "l1", "noise: expected splitting at each sigma or at none"),
        ((), "linf", "norm: expected one of"),
        ((), ["l1"], "norm: expected one of"),
    ],
)
def test_noise_that_no_certificate_fits_is_refused(paper_bundle: Path, noise: Any, norm: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        changed(load_manifest(paper_bundle), noise=noise, norm=norm)


@pytest.mark.parametrize("kind", ["uniform", "splitting"])
def test_a_scale_of_less_than_two_grey_steps_is_refused(paper_bundle: Path, kind: str) -> None:
    manifest = load_manifest(paper_bundle)
    with pytest.raises(BundleError, match="two grey steps"):
        changed(manifest, sigmas=(0.001, 0.25), noise=(kind,) * 2, norm="l1")


def test_a_chunk_is_no_more_than_a_splitting_scale_has_samples(paper_bundle: Path) -> None:
    manifest = load_manifest(paper_bundle)
    splitting = {"noise": ("splitting",) * 2, "norm": "l1"}
    with pytest.raises(BundleError, match="chunk: expected at most all 18 samples of sigma 0.02, got 32"):
        changed(manifest, sigmas=(0.02, 0.25), **splitting)
    assert changed(manifest, sigmas=(0.02, 0.25), chunk=16, **splitting).chunk == 16
