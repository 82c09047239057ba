"""models.graph and models.convert: a graph is its networks' function; one that is not as it should be is refused."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs openvino (pip install 'certify[cpu]')")
from certify.models import graph, openvino_trial
from certify.models.bundle import GRAPH, Manifest, file_digests, find_bundle, load_manifest, save_manifest
from certify.models.engine_openvino import OpenVinoEngine, graph_of
from certify.models.errors import BundleError
from certify.models.runtime import RuntimeOptions, load_pipeline, options_for

IMAGE = np.random.default_rng(1).random((1, 8, 8), dtype=np.float32)
openvino = graph.load_openvino()
ops = openvino.opset13


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_bundle("digits"), tmp_path / "bundle"))


def without_graph(bundle: Path) -> Manifest:
    """As format 1 had it."""
    shutil.rmtree(bundle / "graph")
    manifest = dataclasses.replace(load_manifest(bundle), files=file_digests(bundle), timesteps=())
    save_manifest(manifest, bundle)
    return manifest


def listed(bundle: Path, manifest: Manifest) -> Manifest:
    """Somebody's own graph, under a digest of its own."""
    ours = dataclasses.replace(manifest, files=file_digests(bundle))
    save_manifest(ours, bundle)
    return ours


def rebuilt(bundle: Path, change: Callable[[Any], Any]) -> Manifest:
    """The graph with other logits: change(model) gives them, as an output of a node."""
    manifest = load_manifest(bundle)
    model = graph.read_graph(bundle, manifest)
    (denoised,) = (each for each in model.get_results() if "denoised" in each.output(0).get_names())
    logits = ops.result(change(model))
    for name in ("denoised", "logits"):
        model.output(name).get_tensor().set_names(set())
    denoised.input_value(0).get_tensor().set_names({"denoised"})
    logits.input_value(0).get_tensor().set_names({"logits"})
    other = openvino.Model([denoised, logits], model.get_parameters(), "other")
    openvino.serialize(other, *(str(bundle / name) for name in GRAPH))
    return listed(bundle, manifest)


def before(model: Any) -> Any:
    return model.output("logits").get_node().input_value(0)


@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5])
def test_the_shipped_graph_is_the_networks_beside_it(sigma: float) -> None:
    """1e-4 of logits that span 20: sums in another order."""
    torch = pytest.importorskip("torch")
    from certify.models.networks import load_networks

    folder = find_bundle("digits")
    manifest = load_manifest(folder)
    denoiser, classifier = load_networks(folder, manifest).each(lambda net: net.float()).at(sigma)
    assert denoiser is not None
    engine = OpenVinoEngine(*graph_of(folder, manifest), dtype="float32", batch=64, streams=1)
    noisy = IMAGE + np.float32(sigma) * engine.noise(1, 0, 2, (32, 1, 8, 8))
    with torch.inference_mode():
        theirs = classifier(denoiser.denoise(torch.from_numpy(noisy), sigma)).numpy()
        plain = classifier(torch.from_numpy(noisy[:3])).numpy()
    assert np.abs(engine.logits(noisy, sigma) - theirs).max() < 1e-4 < np.ptp(theirs) / 100
    assert np.abs(engine.plain(noisy[:3]) - plain).max() < 1e-4 < np.ptp(plain) / 100
    assert float(denoiser.constants(sigma)[0]) == manifest.timesteps[manifest.sigmas.index(sigma)]


def test_narrow_constants_change_no_bit(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from certify.models import convert

    manifest, logits, sizes = load_manifest(bundle), [], []
    for small in (convert.SMALL, 2**40):
        monkeypatch.setattr(convert, "SMALL", small)
        manifest = convert.with_graph(manifest, bundle)
        sizes.append((bundle / GRAPH[1]).stat().st_size)
        engine = OpenVinoEngine(*graph_of(bundle, manifest), dtype="float32", batch=64, streams=1)
        logits.append(engine.logits(engine.noise(1, 0, 2, (32, 1, 8, 8)), 0.5))
    assert np.array_equal(*logits) and sizes[0] < 0.7 * sizes[1]


def test_an_upgrade_gives_an_older_bundle_a_graph_the_same_each_time(bundle: Path) -> None:
    pytest.importorskip("torch")
    from certify.models.upgrade import upgrade

    shipped, older = load_manifest(bundle), without_graph(bundle)
    assert (older.format, older.has_graph) == (1, False) and older.digest != shipped.digest
    votes = load_pipeline(bundle, options_for(engine="openvino")).votes(IMAGE, sigma=0.5, seed=1, first=0, count=512)
    first = upgrade(bundle)
    assert (first.format, first.timesteps, first.thresholds) == (2, shipped.timesteps, shipped.thresholds)
    assert load_manifest(bundle) == first == upgrade(bundle)
    again = load_pipeline(bundle, options_for(engine="openvino"))
    assert again.votes(IMAGE, sigma=0.5, seed=1, first=0, count=512).tolist() == votes.tolist()
    assert first.provenance == shipped.provenance and (bundle / "README.md").exists()


def edited(old: str, new: str) -> Callable[[Path, Manifest], Manifest]:
    def edit(bundle: Path, manifest: Manifest) -> Manifest:
        path = bundle / GRAPH[0]
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return listed(bundle, manifest)

    return edit


def cut(name: str) -> Callable[[Path, Manifest], Manifest]:
    def edit(bundle: Path, manifest: Manifest) -> Manifest:
        path = bundle / name
        path.write_bytes(path.read_bytes()[:1000])
        return listed(bundle, manifest)

    return edit


def declared(**fields: Any) -> Callable[[Path, Manifest], Manifest]:
    return lambda bundle, manifest: listed(bundle, dataclasses.replace(manifest, **fields))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edited('names="timestep"', 'names="time"'), r"inputs: expected .*timestep f32\[\?\], got .*time f32\[\?\]"),
        (declared(classes=tuple("abc")), r"outputs: .*logits f32\[\?,3\], got .*logits f32\[\?,10\]"),
        (
            declared(input_shape=(1, 8, 16)),
            r"inputs: expected .*noisy f32\[\?,1,8,16\], .*, got .*noisy f32\[\?,1,8,8\]",
        ),
        (cut(GRAPH[0]), r"graph\.xml: expected a graph that OpenVINO reads, got: "),
        (cut(GRAPH[1]), r"graph\.xml: expected a graph that OpenVINO reads, got: "),
        (edited('type="Convolution"', 'type="Rotation"'), r"expected a graph that OpenVINO reads, got: .*Rotation"),
        (edited('offset="0"', 'offset="99999999"'), r"expected a graph that OpenVINO reads, got: "),
    ],
)
def test_a_graph_that_is_not_the_manifests_is_refused(
    edit: Callable[[Path, Manifest], Manifest], message: str, bundle: Path
) -> None:
    edit(bundle, load_manifest(bundle))
    with pytest.raises(BundleError, match=message):
        load_pipeline(bundle, RuntimeOptions(engine=OpenVinoEngine.name))


def test_random_operations_are_refused(bundle: Path) -> None:
    def noisy(model: Any) -> Any:
        shape = ops.constant(np.array([1, 10], np.int64))
        bounds = (ops.constant(np.float32(value)) for value in (0, 1))
        return ops.add(before(model), ops.random_uniform(shape, *bounds, "f32", 0, 0)).output(0)

    manifest = rebuilt(bundle, noisy)
    with pytest.raises(BundleError, match="expected operations of one sample, .* got RandomUniform"):
        graph.read_graph(bundle, manifest)


def test_a_classifier_that_sees_more_than_the_denoised_image_is_refused(bundle: Path) -> None:
    manifest = rebuilt(bundle, lambda m: ops.add(before(m), ops.unsqueeze(m.input("signal"), np.int64(1))).output(0))
    with pytest.raises(BundleError, match=r"graph/graph\.xml: expected a graph for 1 samples, got: .*signal|Parameter"):
        graph.classifier_of(graph.read_graph(bundle, manifest), 1)


def test_logits_of_another_number_of_samples_are_refused(bundle: Path) -> None:
    def first(model: Any) -> Any:
        ends = (ops.constant(np.array([value], np.int64)) for value in (0, 1, 1))
        return ops.slice(before(model), *ends, ops.constant(np.array([0], np.int64))).output(0)

    with pytest.raises(BundleError, match=r"expected logits of 64 samples, got \[1,10\]|outputs: expected"):
        graph.whole_of(graph.read_graph(bundle, rebuilt(bundle, first)), 64)


def mean(logits: Any) -> Any:
    return ops.add(logits, ops.reduce_mean(logits, np.array([0]), True))


def first_for_all(logits: Any) -> Any:
    """One vote counted as a batch of them."""
    return ops.add(logits, ops.gather(logits, np.array([0]), np.int64(0)))


def up_to(logits: Any) -> Any:
    return ops.cum_sum(logits, np.int64(0))


def neighbours(logits: Any) -> Any:
    return ops.add(logits, ops.roll(logits, np.array([1]), np.array([0])))


@pytest.mark.parametrize("mix", [mean, first_for_all, up_to, neighbours])
def test_logits_that_depend_on_others_of_the_batch_are_found(mix: Callable[[Any], Any], bundle: Path) -> None:
    manifest = rebuilt(bundle, lambda model: mix(before(model)).output(0))
    engine = OpenVinoEngine(*graph_of(bundle, manifest), dtype="float32", batch=64, streams=1)
    with pytest.raises(ValueError, match="depend on others of its batch"):
        openvino_trial._alone(engine, manifest, 64)


@pytest.mark.slow
def test_what_the_trial_finds_is_refused(bundle: Path) -> None:
    rebuilt(bundle, lambda model: mean(before(model)).output(0))
    with pytest.raises(BundleError, match="openvino, which cannot run it: .*depend on others of its batch"):
        options_for(engine="openvino", bundle=bundle)
    assert options_for(bundle=find_bundle("digits")).engine == OpenVinoEngine.name


def test_another_format_under_the_name_is_refused(tmp_path: Path) -> None:
    """ONNX's: y = x + w, where w lies in a file that no digest covers. OpenVINO itself would read it."""

    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value

    def port(name: bytes) -> bytes:
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, field(1, field(1, 2)))))

    add = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"Add")
    place = field(1, b"location") + field(2, b"outside.dat")
    weights = field(1, 2) + field(2, 1) + field(8, b"w") + field(13, place) + field(14, 1)
    body = field(1, add) + field(2, b"g") + field(5, weights) + field(11, port(b"x")) + field(12, port(b"y"))
    (tmp_path / "graph").mkdir()
    (tmp_path / GRAPH[0]).write_bytes(field(1, 8) + field(7, body) + field(8, field(1, b"") + field(2, 13)))
    (tmp_path / GRAPH[1]).write_bytes(b"")
    (tmp_path / "graph" / "outside.dat").write_bytes(np.array([5, 6], np.float32).tobytes())
    assert [port.get_any_name() for port in openvino.Core().read_model(tmp_path / GRAPH[0]).outputs] == ["y"]
    with pytest.raises(BundleError, match="expected a graph that begins with"):
        graph.read_graph(tmp_path, load_manifest(find_bundle("digits")))


@pytest.mark.parametrize("limit", ["LARGEST_XML", "LARGEST_BIN"])
def test_files_have_a_largest_size(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, limit, 1000)
    with pytest.raises(BundleError, match=r"graph\.(xml|bin): expected at most 1000 bytes, got \d{6}"):
        graph.read_graph(find_bundle("digits"), load_manifest(find_bundle("digits")))
