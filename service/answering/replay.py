"""A certificate's counts, held against what would be planned and drawn today: `certify verify`'s last two levels.

The arithmetic of certify/verify.py needs none of this. What only the state machine can say is that label, weights and
looks are the ones that it fixes before the counts they are about; what only the network can say is the votes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Backend, cascade_of
from ..core import Certifier, Counter
from .plans import target_of
from .seeds import SCHEME, SeedScope

__all__ = ("Differs", "chunks_of", "planned_again", "same_runtime", "scope_of", "voted_again")


class Differs(ValueError):
    """What came this time is not what the certificate has."""


def planned_again(payload: Mapping[str, Any]) -> str:
    """Run the state machine on the certificate's own votes: it must ask for the same looks, and divide alpha alike.

    And the noise that it names must be that of its question. Raises Differs, or ValueError for a question that is none.
    """
    noise = payload["noise"]
    if (noise["scheme"], noise["scope_sha256"]) != (SCHEME.decode(), scope_of(payload).sha256):
        raise Differs("noise: scheme and scope_sha256 are not those of the certificate's own question")
    function, request, counts = payload["function"], payload["request"], payload["counts"]
    levels = function["levels"]
    cascade = cascade_of(
        [float(level["sigma"]) for level in levels],
        [float(level["threshold"]) for level in levels],
        function["final"],
        [level["noise"] for level in levels],
    )
    if payload["statement"]["method"] == "deterministic":
        return _all_counted(Counter(cascade, function["classes"]), payload)
    radius = None if request["radius"] is None else float(request["radius"])
    machine = Certifier(
        cascade,
        function["classes"],
        alpha=float(request["alpha"]),
        samples=request["samples"],
        radius=target_of(radius, request["norm"], int(np.prod(payload["input"]["shape"]))),
        chunk=counts["chunk"],
        grain=function["runtime"]["micro_batch"],
    )
    streams = {
        (k, purpose): level[name]
        for k, level in enumerate(counts["levels"])
        for purpose, name in (("pilot", "pilot"), ("estimation", "chunks"))
    }
    looks = 0
    while (query := machine.next()) is not None:
        first, end = query.first // counts["chunk"], (query.first + query.count) // counts["chunk"]
        rows = streams[query.level, query.purpose][first:end]
        if len(rows) < end - first:
            if request["cut_short"]:
                break
            raise Differs(f"votes are missing for the {query.purpose} of level {query.level}, {query.count} samples")
        machine.observe(query, _sum_of(rows, function["classes"]))
        looks += 1
    state = machine.state()
    for k, (level, mine) in enumerate(zip(counts["levels"], state["levels"], strict=True)):
        same = len(level["looks"]) == len(mine["looks"]) and level["taken"] == mine["taken"]
        same = same and len(level["pilot"]) * counts["chunk"] == mine["pilot_samples"]
        same = same and all(
            (look["samples"], float(look["share"])) == (samples, share)
            for look, (samples, share) in zip(level["looks"], mine["looks"], strict=True)
        )
        if not same or (state["weights"] and float(level["weight"]) != state["weights"][k]):
            raise Differs(f"level {k}: weights or looks are not those that its pilots lead to")
    if counts["label"] != machine.label:
        raise Differs(f"label: expected {machine.label}, which the pilots lead to, got {counts['label']}")
    return f"the state machine asks for the same {looks} looks, and divides alpha alike"


def scope_of(payload: Mapping[str, Any]) -> SeedScope:
    """What named the certificate's noise."""
    function, request, runtime = payload["function"], payload["request"], payload["function"]["runtime"]
    radius = None if request["radius"] is None else float(request["radius"])
    return SeedScope(
        tensor_sha256=bytes.fromhex(payload["input"]["sha256"]),
        bundle_digest=function["bundle"]["digest"],
        sigmas=tuple(float(level["sigma"]) for level in function["levels"]),
        alpha=float(request["alpha"]),
        thresholds=tuple(float(level["threshold"]) for level in function["levels"]),
        final=function["final"],
        chunks=request["samples"] // payload["counts"]["chunk"],
        target=target_of(radius, request["norm"], int(np.prod(payload["input"]["shape"]))),
        generator=runtime["generator"],
        device=runtime["device"],
        engine=runtime["engine"],
        dtype=runtime["dtype"],
        micro_batch=runtime["micro_batch"],
    )


def _all_counted(machine: Counter, payload: Mapping[str, Any]) -> str:
    for k, level in reversed(list(enumerate(payload["counts"]["levels"]))):
        query = machine.next()
        if query is None or query.level != k:
            raise Differs(f"level {k}: no samples are asked for")
        machine.observe(query, _sum_of(level["chunks"], payload["function"]["classes"]))
    result = machine.result()
    stated = payload["statement"]["label"]
    if (result.label, result.radius) != (stated and stated["index"], float(payload["statement"]["radius"])):
        raise Differs(f"expected class {result.label} within {result.radius}")
    return "all samples of each level were counted"


def _sum_of(texts: list[str], classes: int) -> list[int]:
    """Votes of chunks together, one number a class: room for one row, however many a certificate claims."""
    total = [0] * classes
    for text in texts:
        for part in text.split():
            label, votes = part.split(":")
            total[int(label)] += int(votes)
    return total


def chunks_of(texts: list[str], classes: int) -> NDArray[np.int64]:
    """Votes of chunks as the certificate writes them, "3:31 8:1" each -> int64 (chunks, classes)."""
    rows = np.zeros((len(texts), classes), dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        for part in text.split():
            label, votes = part.split(":")
            row[int(label)] = int(votes)
    return rows


def same_runtime(payload: Mapping[str, Any], backend: Backend) -> None:
    """Raises Differs unless the backend runs what the certificate names: only then must votes be equal."""
    info, function = backend.info(), payload["function"]
    theirs = {"digest": function["bundle"]["digest"], **function["runtime"]}
    runtime = info.runtime
    ours = {
        "digest": info.bundle_digest,
        "generator": runtime.generator,
        "device": runtime.device,
        "engine": runtime.engine,
        "dtype": runtime.dtype,
        "micro_batch": info.grain,
    }
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise Differs(f"{name}: the certificate is of {theirs.get(name)}, and here it is {value}")
    if function["classes"] != len(info.class_names) or tuple(payload["input"]["shape"]) != info.input_shape:
        raise Differs("classes, shape: the certificate's are not those of the bundle")
    kinds = dict(zip(info.sigmas, info.noises, strict=True))
    for level in function["levels"]:
        if kinds.get(float(level["sigma"])) != level["noise"]:
            raise Differs(f"sigma {level['sigma']}: the bundle has no {level['noise']} noise of it")
    label = payload["statement"]["label"]
    if label is not None and label["name"] != info.class_names[label["index"]]:
        raise Differs(f"label: the bundle calls class {label['index']} {info.class_names[label['index']]}")


def _other_libraries(payload: Mapping[str, Any], backend: Backend) -> str:
    """A reason why honest votes may differ: whoever replays years later need not have the same versions."""
    theirs, ours = payload["function"]["runtime"]["libraries"], dict(backend.info().libraries)
    if theirs == ours or not theirs or not ours:  # a Triton server's are not known
        return ""
    both = (", ".join(f"{name} {number}" for name, number in sorted(each.items())) for each in (theirs, ours))
    return "; the certificate's are by {}, these by {}".format(*both)


async def voted_again(
    payload: Mapping[str, Any],
    image: NDArray[np.float32],
    backend: Backend,
    seed_of: Callable[[str, float], int],
    *,
    spot: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Draw the votes again, all of them or those of `spot` chunks chosen at random, and compare. Raises Differs.

    image: (C, H, W) float32, the certificate's tensor. seed_of(purpose, sigma): of its streams. progress: called with
    pieces done, and all of them.
    """
    same_runtime(payload, backend)
    pieces = list(_pieces(payload, backend.info().grain if spot is None else payload["counts"]["chunk"]))
    chosen = pieces if spot is None else random.SystemRandom().sample(pieces, min(spot, len(pieces)))
    for done, (sigma, purpose, first, rows) in enumerate(sorted(chosen, key=lambda piece: piece[:3])):
        progress(done, len(chosen))
        count = int(rows.sum())
        seed = seed_of(purpose, sigma)
        if backend.info().whole(sigma) is None:
            drawn = await backend.chunk_votes(image, sigma=sigma, seed=seed, first=first, count=count)
        else:
            drawn = (await backend.count_votes(image, sigma=sigma, seed=seed, first=first, count=count))[None]
        if not np.array_equal(drawn, rows):
            where = f"sigma {sigma:g}, {purpose}, samples from {first}"
            raise Differs(f"{where}: other votes were drawn{_other_libraries(payload, backend)}")
    total = sum(int(piece[3].sum()) for piece in chosen)
    if spot is None:
        return f"{total} votes drawn again are equal"
    # Without replacement it is less still.
    missed = 0.9 ** len(chosen)
    return (
        f"{total} votes drawn again are equal, {len(chosen)} of {len(pieces)} chunks; if one in ten were invented, "
        f"this would have missed it with probability {missed:.2g}"
    )


def _pieces(payload: Mapping[str, Any], size: int) -> Iterator[tuple[float, str, int, NDArray[np.int64]]]:
    """(sigma, purpose, first sample, votes of its chunks) of pieces of `size` samples; what was counted, as it was."""
    counts = payload["counts"]
    counted = payload["statement"]["method"] == "deterministic"
    step = 1 if counted else max(1, size // counts["chunk"])
    for level, described in zip(counts["levels"], payload["function"]["levels"], strict=True):
        for purpose, name in (("pilot", "pilot"), ("estimation", "chunks")):
            rows = chunks_of(level[name], payload["function"]["classes"])
            first = 0
            for low in range(0, len(rows), step):
                piece = rows[low : low + step]
                yield float(described["sigma"]), purpose, first, piece
                first += int(piece.sum())
