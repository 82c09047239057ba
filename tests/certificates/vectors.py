"""Certificates that hold and others that do not, as files: `python -m tests.certificates.vectors` writes them.

For whoever writes a verifier of his own, from docs/certificates.md. Each of invalid/ is one change of valid.json,
signed anew by the same key unless the change is of the envelope, or of another certificate that holds (OF_OTHERS).
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from certify.envelope import PAYLOAD_TYPE, canonical, opened
from certify.models.noises import NoiseKind
from certify.service.answering.signing import Signer, envelope, new_key, read_signer
from certify.service.backends.base import BackendInfo
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from tests import pictures
from tests.servers import in_process

FOLDER = Path(__file__).parents[1] / "golden" / "certificates"
Json = dict[str, Any]


async def made(signer_file: Path, /, *noise: NoiseKind, info: BackendInfo = FAKE_INFO, **fields: str) -> bytes:
    """An answer of the fake backend, signed. noise: of each scale, not Gaussian at all of them."""
    info = replace(info, noise=noise, norm="l1") if noise else info
    async with in_process(FakeBackend(info), signing_key_file=signer_file) as service:
        files = {"image": ("a.png", pictures.png())}
        reply = await service.client.post("/v1/certify", files=files, data={"signed": "true", **fields})
        assert reply.status_code == 200 and reply.headers["content-type"] == PAYLOAD_TYPE, reply.text
        return reply.content


def signed(payload: Json | bytes, signer: Signer) -> bytes:
    return signer.sign(payload if isinstance(payload, bytes) else canonical(payload))


def _at(payload: Json, path: str) -> tuple[Any, str | int]:
    *parts, last = path.split("/")
    here: Any = payload
    for part in parts:
        here = here[int(part) if isinstance(here, list) else part]
    return here, int(last) if isinstance(here, list) else last


def _set(path: str, value: object) -> Callable[[Json], None]:
    def change(payload: Json) -> None:
        here, last = _at(payload, path)
        here[last] = value(here[last]) if callable(value) else value

    return change


def _more(text: str) -> str:
    """One more in the last digit."""
    return text[:-1] + str((int(text[-1]) + 1) % 10) if text[-1] != "9" else text + "1"


def _fallen(payload: Json) -> None:
    level = next(level for level in payload["counts"]["levels"] if level["taken"] > 1)
    level["looks"][1]["votes"] = level["looks"][0]["votes"]


def _swapped(payload: Json) -> None:
    level = next(level for level in payload["counts"]["levels"] if level["taken"] > 1)
    level["looks"][0], level["looks"][1] = level["looks"][1], level["looks"][0]


def _hidden_look(payload: Json) -> None:
    """Shares of a level whose sum is above 1."""
    level = next(level for level in payload["counts"]["levels"] if level["looks"])
    level["looks"][0]["share"] = "0.99"


def _moved_votes(payload: Json) -> None:
    """Votes that nobody cast, in a chunk and in the sums after it."""
    level = next(level for level in payload["counts"]["levels"] if level["taken"])
    label = payload["counts"]["label"]
    level["chunks"][0] = f"{label}:{payload['counts']['chunk']}"


# Name -> one change of the payload.
CHANGES: dict[str, Callable[[Json], None]] = {
    "radius": _set("statement/radius", lambda text: f"{float(text) + 0.000002:.6f}"),
    "radius_linf": _set("statement/radius_linf", lambda text: f"{float(text) + 0.001:.6f}"),
    "label": _set("statement/label/index", lambda index: (index + 1) % 10),
    "alpha": _set("statement/alpha", "0.0001"),
    "alpha_of_both": lambda payload: (
        (
            _set("statement/alpha", "0.5")(payload),
            _set("request/alpha", "0.5")(payload),
        )
        and None
    ),
    "outcome": _set("statement/outcome", "abstained"),
    "norm": _set("statement/norm", "linf"),
    "method": _set("statement/method", "deterministic"),
    "sigma": _set("function/levels/0/sigma", "9.5"),
    "sigma_larger": _set("function/levels/2/sigma", lambda text: _more(text)),
    "threshold_below_half": _set("function/levels/1/threshold", "0.4"),
    "noise_unknown": _set("function/levels/0/noise", "cauchy"),
    "noise_of_another_norm": _set("function/levels/0/noise", "laplace"),
    "bundle_digest": _set("function/bundle/digest", "sha256:0"),
    "input_digest": _set("input/sha256", "0" * 63),
    "plan_older": _set("request/plan", "certify-plan-1"),
    "samples_fewer": _set("request/samples", 320),
    "shares_above_one": _hidden_look,
    "weights_above_one": _set("counts/levels/0/weight", "0.99"),
    "looks_out_of_order": _swapped,
    "counts_that_fall": _fallen,
    "votes_moved": _moved_votes,
    "votes_of_no_class": _set("counts/levels/0/pilot/0", "99:32"),
    "votes_repeated": _set("counts/levels/0/pilot/0", "1:16 1:16"),
    "votes_too_few": _set("counts/levels/0/pilot/0", "1:31"),
    "taken_more": _set("counts/levels/0/taken", lambda taken: taken + 1),
    "exponent": _set("statement/alpha", "1e-3"),
    "huge_number": _set("statement/radius", "9" * 400),
    "real_as_number": _set("request/samples", 10000.5),
    "field_missing": lambda payload: payload["counts"].pop("chunk") and None,
    "field_unknown": _set("statement/note", "trust me"),
    "speaks_of": _set("statement/speaks_of", "any picture at all"),
    "encoding": _set("input/encoding", "as you like"),
    "version": _set("version", "certify-certificate-0"),
    "sigmas_of_no_such_question": lambda payload: (
        [  # all tenfold: the state machine asks for the same looks
            _set(f"function/levels/{k}/sigma", text)(payload) for k, text in enumerate(("2.5", "5", "10"))
        ]
        and None
    ),
    "scope_of_another_question": _set("noise/scope_sha256", "0" * 64),
    "samples_without_end": _set("request/samples", 32 * 10**9),
    "scheme": _set("noise/scheme", "dice"),
    "radius_in_another_spelling": lambda payload: (
        [
            _set("statement/radius", lambda text: text + "0")(payload),
            _set("statement/speaks_of", lambda text: text.replace(",", "0,", 1))(payload),
        ]
        and None
    ),
    "constant_of_another_noise": _set("function/levels/0/b", "9"),
    "label_with_a_note": _set("statement/label/note", "any picture at all"),
    "runtime_with_a_note": _set("function/runtime/note", "x"),
    "runtime_is_text": _set("function/runtime", "fake"),
    "micro_batch_is_text": _set("function/runtime/micro_batch", "32"),
    "version_of_a_library_is_a_number": _set("function/runtime/libraries/numpy", 2),
    "libraries_as_a_list": _set("function/runtime/libraries", ["numpy 2"]),
    "bundle_version_is_a_number": _set("function/bundle/version", 1),
    "flag_is_text": _set("request/cut_short", "maybe"),
    "digest_without_its_kind": _set("function/bundle/digest", lambda text: text.removeprefix("sha256:")),
    "no_such_day": _set("issued_at", "2026-99-99T99:99:99Z"),
    "time_with_a_zone": _set("issued_at", "0001-01-01T00:00:00+14:00"),
    "classes_without_end": _set("function/classes", 10**14),
    "request_norm": _set("request/norm", "l0"),
    "samples_not_in_chunks": _set("request/samples", lambda samples: samples + 1),
    "surrogate": _set("id", "SURROGATE"),
}

# File of valid_*.json, name -> one change of its payload.
OF_OTHERS: dict[str, dict[str, Callable[[Json], None]]] = {
    "valid_abstention": {
        "abstention_with_a_radius_linf": _set("statement/radius_linf", "0.5"),
        "radius_below_the_tolerance": lambda payload: payload["statement"].update(
            outcome="certified", label={"index": payload["counts"]["label"], "name": "6"}, radius="0.0000000001",
            speaks_of="8-bit image x' with |x' - x|_2 < 0.0000000001, pixels in [0, 1]",
        ),
    },
    "valid_laplace": {
        "b_of_a_larger_sigma": _set("function/levels/0/b", "0.176777"),
        "b_none": _set("function/levels/0/b", None),
        "request_in_l2": _set("request/norm", "l2"),
    },
    "valid_uniform": {
        "grey_steps_of_a_larger_sigma": _set("function/levels/0/grey_steps", lambda steps: steps + 1),
        "splitting_that_was_drawn": _set("function/levels/0/noise", "splitting"),
        "grey_steps_many": _set("function/levels/1/grey_steps", 10**9),
    },
    "valid_counted": {
        "counted_another_cell": _set("function/levels/0/grey_steps", lambda steps: steps + 1),
        "counted_share": _set("counts/levels/2/looks/0/share", "1"),
        "counted_radius": _set("statement/radius", "0.9"),
    },
}  # fmt: skip


def invalid(valid: bytes, signer: Signer, stranger: Signer) -> Iterator[tuple[str, bytes]]:
    """(name, file)."""
    payload, written, _ = opened(valid)
    for name, change in CHANGES.items():
        other = copy.deepcopy(payload)
        change(other)
        yield name, signed(canonical(other).replace(b"SURROGATE", b"\\ud800"), signer)
    deep = b"[" * 980 + b"]" * 980  # read, and too deep to be written
    yield "deep", signed(written.replace(b'"engine":"fake"', b'"engine":' + deep), signer)
    twice = written[:-1] + b',"version":"certify-certificate-1"}'
    yield "name_twice", signed(twice, signer)
    yield "not_canonical", signed(json.dumps(payload, indent=1).encode(), signer)
    other = copy.deepcopy(payload)
    other["id"] = "another"
    body = json.loads(valid)
    yield "signature_of_another", canonical({**body, "payload": base64.b64encode(canonical(other)).decode()})
    yield "signed_by_a_stranger", signed(written, stranger)
    yield (
        "strangers_signature_under_our_name",
        envelope(
            written, signer.keys[0].id, base64.b64decode(json.loads(stranger.sign(written))["signatures"][0]["sig"])
        ),
    )
    yield "payload_type", canonical({**body, "payloadType": "application/json"})
    yield "signature_twice", canonical({**body, "signatures": body["signatures"] * 2})
    yield "no_signature", canonical({**body, "signatures": []})
    yield "base64_in_another_spelling", canonical({**body, "payload": body["payload"] + "\n"})
    yield "truncated", valid[: len(valid) // 2]
    yield "empty", b""


def invalid_others(valid: dict[str, bytes], signer: Signer) -> Iterator[tuple[str, bytes]]:
    """(name, file): changes of the other certificates that hold."""
    for which, changes in OF_OTHERS.items():
        for name, change in changes.items():
            other, _, _ = opened(valid[which])
            change(other)
            yield name, signed(other, signer)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        keys = [Path(name) / each for each in ("ours", "stranger")]
        for path in keys:
            path.write_text(new_key())
        signer, stranger = map(read_signer, keys)
        valid = {
            "valid": asyncio.run(made(keys[0])),
            "valid_at_a_radius": asyncio.run(made(keys[0], radius="0.1")),
            "valid_abstention": asyncio.run(made(keys[0], samples="2000", threshold="0.99", final="threshold")),
            "valid_laplace": asyncio.run(made(keys[0], "laplace", "gaussian", "laplace", samples="4000")),
            "valid_uniform": asyncio.run(made(keys[0], "uniform", "uniform", "laplace", samples="4000")),
            "valid_counted": asyncio.run(made(keys[0], "splitting", "splitting", "splitting")),
        }
    (FOLDER / "invalid").mkdir(parents=True, exist_ok=True)
    (FOLDER / "keys.json").write_text(json.dumps({"keys": [key.jwk() for key in signer.keys]}, indent=1) + "\n")
    for name, data in valid.items():
        (FOLDER / f"{name}.json").write_bytes(data)
    for name, data in (*invalid(valid["valid"], signer, stranger), *invalid_others(valid, signer)):
        (FOLDER / "invalid" / f"{name}.json").write_bytes(data)


if __name__ == "__main__":
    main()
