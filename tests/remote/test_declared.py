"""The manifest's field `remote`: its address, its values, and what a manifest with it may not have."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from certify.models.bundle import Manifest, load_manifest, save_manifest
from certify.models.errors import BundleError
from certify.models.remote.declared import Remote, parse_url
from certify.models.remote.packing import drafted

PREFIXED = "https://h/some/where/v2/models/a-b/versions/3"
ADDRESSES = {
    "http://h:8000/v2/models/digits": ("oip-http", "http://h:8000/v2/models/digits", "digits", ""),
    f"{PREFIXED}/": ("oip-http", PREFIXED, "a-b", "3"),
    "grpc://h:8001/digits": ("oip-grpc", "h:8001", "digits", ""),
    "grpcs://[::1]:8001/digits/2": ("oip-grpc", "[::1]:8001", "digits", "2"),
    "https://vendor.example/v1/classify": ("json", "https://vendor.example/v1/classify", "", ""),
}


@pytest.mark.parametrize(("url", "parts"), ADDRESSES.items(), ids=ADDRESSES)
def test_an_address_says_protocol_model_and_version(url: str, parts: tuple[str, str, str, str]) -> None:
    address = parse_url(url)
    assert (address.protocol, address.base, address.model, address.version) == parts
    assert address.secure == url.startswith(("https", "grpcs"))


@pytest.mark.parametrize(
    "url",
    [
        "", "digits", "h:8000/v2/models/digits", "ftp://h/a", "file:///etc/passwd", "http://", "http://h:0/a", "http://h:x/a",
        "http://h:70000/a", "grpc://h/digits", "grpc://h:8001", "grpc://h:8001/a/1/b", "http://h/v2/models/",
        "http://h/v2/models/a/versions", "http://h/v2/models/a/infer", "http://h/\n", "http://h ost/a", 7,
    ],
    ids=repr,
)  # fmt: skip
def test_an_address_of_another_form_is_refused(url: Any) -> None:
    with pytest.raises(BundleError, match="url: expected"):
        parse_url(url)


@pytest.mark.parametrize("url", ["http://me:pass@h/a", "http://me@h/a", "https://h/a?key=secret", "https://h/a#secret"])
def test_an_address_holds_no_credential_and_the_error_does_not_repeat_it(url: str) -> None:
    with pytest.raises(BundleError, match="a bundle holds no credential") as refused:
        parse_url(url)
    assert "pass" not in str(refused.value).replace("password", "") and "secret" not in str(refused.value)


FIELD: dict[str, Any] = {
    "url": "http://h/v2/models/digits",
    "input": {
        "name": "images", "dtype": "fp32", "layout": "NCHW", "channels": 1, "size": [8, 8], "mean": [0.5], "std": [1],
    },
    "output": {"name": "logits", "kind": "scores"},
    "known": [0, 1] * 8,
}  # fmt: skip


def with_(path: str, value: object) -> dict[str, Any]:
    """FIELD with another value; None: without it."""
    changed = {**FIELD, "input": dict(FIELD["input"]), "output": dict(FIELD["output"])}
    *way, last = path.split(".")
    inner = changed[way[0]] if way else changed
    inner[last] = value
    if value is None:
        del inner[last]
    return changed


def test_a_field_reads_back_as_it_was_written() -> None:
    remote = Remote.of(FIELD)
    assert Remote.of(remote.as_json()) == remote and remote.input.std == (1.0,) and remote.max_batch == 64


WRONG = [
    ("url", None, "url: expected a value"),
    ("input", "images", "input: expected an object"),
    ("token", "secret", "token: expected one of url, input"),
    ("input.token", "secret", "input.token: expected one of"),
    ("input.layout", "NCWH", r"input.layout: expected one of \('NCHW', 'NHWC', 'flat'\), got 'NCWH'"),
    ("input.dtype", "png", "input: expected scale 255"),
    ("input.dtype", "fp16", r"input.dtype: expected one of \('fp32', 'uint8'\) by oip-http, got 'fp16'"),
    ("input.channels", 4, "input.channels: expected 1 or 3, got 4"),
    ("input.size", [8], "input.size: expected height and width"),
    ("input.size", [8, 1_000_000], "input.size: expected height and width"),
    ("input.kernel", "lanczos", "input.kernel: expected one of"),
    ("input.scale", 0, "input.scale: expected a number other than 0"),
    ("input.mean", [0.5, 0.5], "input.mean: expected 1 numbers"),
    ("input.std", [0.0], "input.std: expected values > 0"),
    ("input.name", "", "input.name: expected a tensor's name"),
    ("output.kind", "logits", "output.kind: expected one of"),
    ("max_batch", 0, "max_batch: expected 1 to 4096"),
    ("known", [0, 1], "known: expected 16 classes"),
]


@pytest.mark.parametrize(("path", "value", "says"), WRONG, ids=[f"{path} {value}" for path, value, _ in WRONG])
def test_a_wrong_value_is_named(path: str, value: Any, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        Remote.of(with_(path, value))


def manifest(folder: Path, **fields: Any) -> Manifest:
    files = {"denoiser/config.json", "denoiser/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"}
    facts: dict[str, Any] = {
        "name": "far", "version": "1", "classes": ("a", "b"), "input_shape": (1, 8, 8), "sigmas": (0.25,),
        "thresholds": (0.5,), "final": "plurality", "files": dict.fromkeys(files, "0" * 64), "remote": FIELD, **fields,
    }  # fmt: skip
    return Manifest(**facts)


def test_a_manifest_with_it_is_of_format_3_and_its_digest_covers_it(tmp_path: Path) -> None:
    ours = manifest(tmp_path)
    save_manifest(ours, tmp_path)
    assert load_manifest(tmp_path) == ours and ours.format == 3
    other = dataclasses.replace(ours, remote=with_("url", "http://h/v2/models/digits/versions/2"))
    assert other.digest != ours.digest


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"files": {"classifier/config.json": "0" * 64}}, "files: expected an entry for denoiser/config.json"),
        ({"remote": with_("input.channels", 3)}, "remote: input.mean"),
        ({"remote": with_("known", [2] * 16)}, "remote: known: expected 16 of 2 classes"),
        ({"remote": with_("known", None)}, "remote: known: expected 16 of 2 classes"),
        ({"input_shape": (3, 8, 8)}, "remote: input.channels: expected 3, got 1"),
    ],
)
def test_a_manifest_that_does_not_fit_it_is_refused(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        manifest(tmp_path, **fields)


def test_a_classifiers_files_beside_it_are_refused(tmp_path: Path) -> None:
    files = {**manifest(tmp_path).files, "classifier/config.json": "0" * 64}
    with pytest.raises(BundleError, match="files: expected no entry for classifier/config.json beside remote"):
        manifest(tmp_path, files=files)


def about(shape: list[int], datatype: str = "FP32", outputs: Any = ("FP32", [-1, 10])) -> dict[str, Any]:
    return {
        "versions": ["1"],
        "platform": "",
        "inputs": [{"name": "x", "datatype": datatype, "shape": shape}],
        "outputs": [{"name": "y", "datatype": outputs[0], "shape": outputs[1]}],
    }


OIP = "http://h/v2/models/m"
DRAFTS: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int, int], dict[str, Any]]] = [
    (about([-1, 3, 224, 224]), {}, (3, 32, 32), {"layout": "NCHW", "size": (224, 224), "scale": 1.0}),
    (about([-1, 224, 200, 3], "UINT8"), {}, (3, 32, 32), {"layout": "NHWC", "size": (224, 200), "scale": 255.0}),
    (about([-1, 1, -1, -1]), {}, (1, 8, 8), {"layout": "NCHW", "size": (8, 8)}),
    (about([-1, 1, -1, -1]), {"input": {"size": [16, 16]}}, (1, 8, 8), {"size": (16, 16)}),
    (about([-1, -1, -1, -1]), {"input": {"layout": "NHWC"}}, (1, 8, 8), {"layout": "NHWC"}),
    (about([-1, 64]), {}, (1, 8, 8), {"layout": "flat", "size": (8, 8)}),
    ({}, {"input": {"name": "x"}, "output": {"name": "y"}}, (1, 8, 8), {"dtype": "fp32", "layout": "NCHW"}),
]


@pytest.mark.parametrize(("told", "given", "shape", "found"), DRAFTS)
def test_metadata_fills_what_the_packer_does_not_say(told: Any, given: Any, shape: Any, found: Any) -> None:
    remote, scores = drafted(OIP, given, shape, told)
    assert {name: getattr(remote.input, name) for name in found} == found
    assert remote.reported == told and scores == (10 if told else None) and remote.max_batch == 64


def test_metadata_says_labels_and_a_call_of_one() -> None:
    for shape in ([-1], [-1, 1]):
        remote, scores = drafted(OIP, {}, (1, 8, 8), about([1, 1, 8, 8], outputs=("INT64", shape)))
        assert (remote.output.kind, scores, remote.max_batch) == ("labels", None, 1)


FITS = about([-1, 1, 8, 8])
SECOND = {"name": "z", "datatype": "FP32", "shape": [1]}
AS_SAID = r"expected shape \[-1, {}\], as the endpoint says, got \[-1, {}\]"
MISFITS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (about([-1, 3, 8, 8]), {}, "input.layout: expected NCHW, NHWC or flat to be said, since x's shape .* fits none"),
    (about([-1, 1, 8, 1]), {}, "fits NCHW and NHWC"),
    (about([-1, 1, 8, 8], "BYTES"), {}, "input x: datatype: expected FP32 or UINT8, got BYTES"),
    (FITS, {"input": {"dtype": "uint8"}}, "input.dtype: expected fp32, as the endpoint says, got uint8"),
    (FITS, {"input": {"size": [9, 9]}}, AS_SAID.format("1, 8, 8", "1, 9, 9")),
    (about([-1, 63]), {}, AS_SAID.format("63", "64")),
    (about([4, 1, 8, 8]), {}, r"expected an input of any number of pictures \(-1\), or of one, got 4"),
    (FITS, {"input": {"name": "z"}}, "input.name: expected one of x, got 'z'"),
    (FITS, {"output": {"name": "z"}}, "output.name: expected one of y, got 'z'"),
    (FITS, {"token": "t"}, "remote: token: expected one of input, output, max_batch"),
    (FITS, {"input": {"mean": "half"}}, "remote: input.mean"),
    (FITS, {"input": {"channels": 3}}, "input.layout"),
    (FITS, {"input": "images"}, "expected values as docs/bundles.md has them"),
    (FITS, {"input": {"size": []}}, "expected values as docs/bundles.md has them"),
    (FITS, {"input": {"layout": 1}}, "expected shape|input.layout"),
    ({**FITS, "inputs": [*FITS["inputs"], SECOND]}, {}, "a model that takes one alone"),
    ({}, {}, "input.name: expected a tensor's name, since the endpoint gives no metadata of such a model"),
]


@pytest.mark.parametrize(("told", "given", "says"), MISFITS, ids=[says[:40] for *_, says in MISFITS])
def test_what_does_not_fit_is_said_in_words(told: Any, given: Any, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        drafted(OIP, given, (1, 8, 8), told)
