"""Certificates: made by the service, and read by a verifier that shares no code with it."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")

from certify import verify
from certify.envelope import PAYLOAD_TYPE, Unreadable, opened, signers
from certify.service.answering.evidence import votes_texts
from certify.service.answering.evidence_schemas import Evidence
from certify.service.answering.images import decode_image
from certify.service.answering.replay import Differs, planned_again, scope_of, voted_again
from certify.service.answering.signing import key_set, read_signer
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from tests import pictures
from tests.certificates.vectors import CHANGES, FOLDER, OF_OTHERS, made
from tests.cli.test_cli import certify
from tests.servers import SEED_KEY, in_process

VALID = sorted(FOLDER.glob("valid*.json"))
INVALID = sorted((FOLDER / "invalid").glob("*.json"))
KEYS = FOLDER / "keys.json"


def payload_of(data: bytes) -> dict[str, Any]:
    return opened(data)[0]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_what_holds_holds(path: Path) -> None:
    code, out, _ = certify("verify", "--key", str(KEYS), str(path))
    assert code == 0 and "FAILS" not in out and "holds  plan: " in out
    payload, written, signatures = opened(path.read_bytes())
    assert all(check.holds for check in verify.checks(payload, written))
    assert Evidence.model_validate(payload).model_dump(mode="json") == payload


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_what_was_changed_is_refused_with_the_reason(path: Path) -> None:
    code, out, _ = certify("verify", "--key", str(KEYS), "--json", str(path))
    said = json.loads(out)
    assert code in (1, 2) and not said["holds"]
    last = said["checks"][-1]
    assert not last["holds"] and len(last["found"]) > 10
    assert code == (2 if last["name"] == "readable" else 1)


def test_there_is_a_file_for_every_kind_of_change() -> None:
    assert {path.stem for path in INVALID} >= {*CHANGES, *(name for changes in OF_OTHERS.values() for name in changes)}
    assert len(INVALID) >= 70 and len(VALID) == 6


def test_the_verifier_shares_no_code_with_what_it_verifies() -> None:
    ours = {name for name in vars(verify) if not name.startswith("__")}
    modules = {getattr(vars(verify)[name], "__module__", None) for name in ours}
    assert not [name for name in modules if name and name.startswith("certify.") and "service" in name]
    for module in (verify, sys.modules["certify.envelope"], sys.modules["certify.form"]):
        assert module.__file__
        lines = Path(module.__file__).read_text().splitlines()
        imports = [line.strip() for line in lines if line.strip().startswith(("import ", "from "))]
        assert not [
            line
            for line in imports
            if line.startswith("from .") and not line.startswith(("from .envelope", "from .form"))
        ]


@pytest.mark.parametrize(
    "fields", [{}, {"radius": "0.2"}, {"final": "threshold"}, {"samples": "4000", "alpha": "0.05"}]
)
def test_evidence_of_any_question_holds_and_says_what_the_answer_says(fields: dict[str, str]) -> None:
    async def ask() -> tuple[dict[str, Any], dict[str, Any]]:
        async with in_process() as service:
            files = {"image": ("a.png", pictures.png())}
            with_it = await service.client.post("/v1/certify", files=files, data={"evidence": "true", **fields})
            without = await service.client.post("/v1/certify", files=files, data=fields)
            return with_it.json(), without.json()

    answer, plain = asyncio.run(ask())
    evidence = answer.pop("evidence")
    assert plain.pop("evidence") is None
    for each in (answer, plain):
        del each["id"], each["timing"]
    assert answer == plain  # asking for it changes nothing
    written = verify.canonical(evidence)
    assert len(written) < 20_000
    assert all(check.holds for check in verify.checks(evidence, written))
    planned_again(evidence)
    assert evidence["statement"]["outcome"] == answer["outcome"]
    assert float(evidence["statement"]["radius"]) == answer["radius"]


def test_a_deadline_leaves_evidence_of_what_was_proved(key_file: Path) -> None:
    async def ask() -> dict[str, Any]:
        async with in_process(FakeBackend(delay_seconds=0.05)) as service:
            data = {"evidence": "true", "samples": "100000", "deadline_ms": "700"}
            reply = await service.client.post("/v1/certify", files={"image": ("a.png", pictures.png())}, data=data)
            return reply.json()

    answer = asyncio.run(ask())
    if answer.get("code") == "deadline_exceeded":
        pytest.skip("this machine is too busy for one look")
    evidence = answer["evidence"]
    assert all(check.holds for check in verify.checks(evidence, verify.canonical(evidence)))
    assert evidence["request"]["cut_short"]
    planned_again(evidence)


def test_a_client_asks_for_a_signature_by_field_or_by_accept(key_file: Path) -> None:
    async def ask() -> None:
        async with in_process(signing_key_file=key_file) as service:
            files = {"image": ("a.png", pictures.png())}
            by_field = await service.client.post("/v1/certify", files=files, data={"signed": "true"})
            by_accept = await service.client.post("/v1/certify", files=files, headers={"Accept": PAYLOAD_TYPE})
            keys = {key.id: key.raw for key in read_signer(key_file).keys}
            for reply in (by_field, by_accept):
                assert reply.headers["content-type"] == PAYLOAD_TYPE
                _, written, signatures = opened(reply.content)
                assert signers(written, signatures, keys) == list(keys)
            for path in ("/v1/keys", "/keys"):
                assert (await service.client.get(path)).json() == key_set(read_signer(key_file).keys)
            for refused in (f"{PAYLOAD_TYPE};q=0", f"application/json, {PAYLOAD_TYPE};q=0.5", "*/*"):
                reply = await service.client.post("/v1/certify", files=files, headers={"Accept": refused})
                assert reply.headers["content-type"] == "application/json" and reply.json()["evidence"] is None

    asyncio.run(ask())


def test_without_a_key_a_signature_is_refused_and_there_are_no_keys() -> None:
    async def ask() -> None:
        async with in_process() as service:
            files = {"image": ("a.png", pictures.png())}
            refused = await service.client.post("/v1/certify", files=files, data={"signed": "true"})
            assert (refused.status_code, refused.json()["field"]) == (422, "signed")
            assert (await service.client.get("/v1/keys")).json() == {"keys": []}

    asyncio.run(ask())


@pytest.mark.parametrize("cut", [1000, 128], ids=["one piece a level", "several"])
def test_what_was_counted_is_counted_again(key_file: Path, cut: int) -> None:
    payload = payload_of((FOLDER / "valid_counted.json").read_bytes())
    picture = decode_image(pictures.png(), (1, 8, 8), resize=False, max_pixels=64)
    backend = FakeBackend(replace(FAKE_INFO, noise=("splitting",) * 3, norm="l1"))

    async def again() -> str:
        await backend.open()
        for level, described in zip(payload["counts"]["levels"], payload["function"]["levels"], strict=True):
            whole, sigma = described["grey_steps"], float(described["sigma"])
            pieces = [(low, min(whole, low + cut)) for low in range(0, whole, cut)]
            level["chunks"] = [
                text
                for low, high in pieces
                for text in votes_texts(
                    (await backend.count_votes(picture.tensor, sigma=sigma, seed=0, first=low, count=high - low))[None]
                )
            ]
        assert all(check.holds for check in verify.checks(payload, verify.canonical(payload)))
        return await voted_again(payload, picture.tensor, backend, lambda *_: 0)

    assert "1546 votes drawn again are equal" in asyncio.run(again())
    payload["function"]["levels"][0].update(noise="uniform")
    with pytest.raises(Differs, match="the bundle has no uniform noise"):
        asyncio.run(voted_again(payload, picture.tensor, backend, lambda *_: 0))


def test_a_certificate_s_words_cannot_write_lines_of_ours(tmp_path: Path) -> None:
    body = json.loads(VALID[0].read_bytes())
    body["signatures"][0]["keyid"] = "x\n  holds  signature: by us \x1b[2K\u202e\ud800"
    path = tmp_path / "c.json"
    path.write_text(json.dumps(body))
    code, out, _ = certify("verify", "--key", str(KEYS), str(path))
    assert code == 1 and len(out.splitlines()) == 2 and out.rstrip("\n").replace("\n", "").isprintable()


def test_a_file_that_cannot_be_read_does_not_hide_the_next(tmp_path: Path) -> None:
    code, out, _ = certify("verify", str(tmp_path / "none.json"), str(tmp_path), str(VALID[0]))
    assert code == 2 and out.count("expected a file that can be read") == 2 and "holds  plan" in out
    (tmp_path / "secret").write_text(SEED_KEY)
    path = tmp_path / "c.json"
    path.write_text("[]")
    code, _, err = certify("reveal", str(path), "--seed-key-file", str(tmp_path / "secret"))
    assert code == 1 and "expected a certificate that holds" in err


def test_votes_are_drawn_again_all_of_them_or_some(key_file: Path) -> None:
    payload = payload_of(asyncio.run(made(key_file)))
    scope, tensor = scope_of(payload), decode_image(pictures.png(), (1, 8, 8), resize=False, max_pixels=64).tensor
    assert scope.sha256 == payload["noise"]["scope_sha256"]

    def seed_of(purpose: str, sigma: float) -> int:
        return scope.seed(SEED_KEY.encode(), purpose, sigma)

    async def again(spot: int | None = None, image: Any = tensor) -> str:
        backend = FakeBackend()
        await backend.open()
        return await voted_again(payload, image, backend, seed_of, spot=spot)

    levels = payload["counts"]["levels"]
    chunks = sum(len(level["pilot"]) + len(level["chunks"]) for level in levels)
    assert f"{32 * chunks} votes drawn again are equal" in asyncio.run(again())
    assert f"20 of {chunks} chunks" in asyncio.run(again(20))
    level = max(levels, key=lambda level: len(level["chunks"]))
    level["chunks"][3] = f"{payload['counts']['label']}:32"
    with pytest.raises(Differs, match="other votes were drawn$"):
        asyncio.run(again())
    payload["function"]["runtime"]["libraries"] |= {"numpy": "1.0", "abacus": "3"}
    with pytest.raises(Differs, match="; the certificate's are by abacus 3, numpy 1.0, these by numpy 2"):
        asyncio.run(again())
    payload["function"]["runtime"]["engine"] = "another"
    with pytest.raises(Differs, match="engine: the certificate is of another, and here it is fake"):
        asyncio.run(again())


def test_a_spot_check_finds_a_tenth_of_invented_chunks_as_often_as_it_says() -> None:
    """Exactly, without replacement: 44 chunks are needed, whatever their number; 5% of 100,000 samples' are more."""
    for chunks in (312, 3125):
        false = math.ceil(chunks / 10)
        missed = math.comb(chunks - false, 44) / math.comb(chunks, 44)
        assert missed <= 0.9**44 < 0.01
    assert math.comb(3125 - 313, 156) / math.comb(3125, 156) < 1e-7


def test_what_is_revealed_is_one_question_s_seeds(key_file: Path, tmp_path: Path) -> None:
    certificate, secret = tmp_path / "c.json", tmp_path / "seed.key"
    certificate.write_bytes(asyncio.run(made(key_file)))
    secret.write_text(SEED_KEY + "\n")
    code, out, err = certify("reveal", str(certificate), "--seed-key-file", str(secret))
    assert code == 0, err
    payload, seeds = payload_of(certificate.read_bytes()), json.loads(out)
    scope = scope_of(payload)
    assert seeds["scope_sha256"] == scope.sha256 and len(seeds["seeds"]) == 6
    sigma = payload["function"]["levels"][0]["sigma"]
    assert seeds["seeds"][f"pilot {sigma}"] == str(scope.seed(SEED_KEY.encode(), "pilot", float(sigma)))
    kept = tmp_path / "seeds.json"
    code, _, err = certify("reveal", str(certificate), "--seed-key-file", str(secret), "--out", str(kept))
    assert code == 0 and json.loads(kept.read_text()) == seeds, err
    code, _, err = certify("reveal", str(certificate), "--seed-key-file", str(secret), "--out", str(tmp_path))
    assert code == 1 and "expected a file, or none yet, got a folder" in err
    secret.write_text("another key of thirty-two bytes and more")
    code, _, err = certify("reveal", str(certificate), "--seed-key-file", str(secret))
    assert code == 1 and "expected the key" in err


def test_streams_of_sigmas_that_are_almost_equal_have_names_of_their_own(key_file: Path, tmp_path: Path) -> None:
    certificate, secret = tmp_path / "c.json", tmp_path / "seed.key"
    info = replace(FAKE_INFO, sigmas=(0.25000000000000006, 0.2500000000000001, 1.0))
    certificate.write_bytes(asyncio.run(made(key_file, info=info, samples="2000")))
    secret.write_text(SEED_KEY)
    code, out, err = certify("reveal", str(certificate), "--seed-key-file", str(secret))
    assert code == 0, err
    names = ["0.25000000000000006", "0.2500000000000001", "1"]
    seeds, scope = json.loads(out)["seeds"], scope_of(payload_of(certificate.read_bytes()))
    assert sorted(seeds) == sorted(f"{purpose} {name}" for purpose in ("pilot", "estimation") for name in names)
    assert seeds["pilot 0.2500000000000001"] == str(scope.seed(SEED_KEY.encode(), "pilot", 0.2500000000000001))


def test_another_image_is_not_the_certificates(key_file: Path, tmp_path: Path) -> None:
    certificate = tmp_path / "c.json"
    certificate.write_bytes(asyncio.run(made(key_file)))
    for name, data, code in (("same", pictures.png(), 0), ("other", pictures.png(5), 1)):
        (tmp_path / name).write_bytes(data)
        got, out, _ = certify("verify", str(certificate), "--image", str(tmp_path / name))
        assert got == code, out
    payload = payload_of(certificate.read_bytes())
    for change in ({"turned": True}, {"resized": True}, {"shape": [1, 10**9, 10**9]}, {"shape": [7, 8, 8]}):
        other = {**payload, "input": {**payload["input"], **change}}
        other["statement"] = {**payload["statement"], "radius_linf": "0"}
        certificate.write_bytes(verify.canonical(other))
        got, out, _ = certify("verify", str(certificate), "--image", str(tmp_path / "same"))
        assert got == 1 and "FAILS  image" in out, out


def test_an_unsigned_payload_can_be_verified_and_says_so() -> None:
    payload, written, _ = opened(VALID[0].read_bytes())
    assert opened(written) == (payload, written, [])
    with pytest.raises(Unreadable):
        opened(b"[]")


def test_an_answer_s_evidence_is_read_where_it_stands_and_in_any_layout() -> None:
    payload, written, _ = opened(VALID[0].read_bytes())
    backwards = dict(reversed(payload.items()))
    answer = {"seed": 2**63 + 1, "radius": 0.25, "evidence": backwards, "timing": {"total_seconds": 1e-3}}
    for unsigned in (backwards, answer):
        for indent in (None, 2):
            assert opened(json.dumps(unsigned, indent=indent).encode()) == (payload, written, [])
    lone = {**payload, "id": "\ud800"}
    for wrong, said in (({**answer, "evidence": None}, "asked for with evidence"), (lone, "surrogates")):
        with pytest.raises(Unreadable, match=said):
            opened(json.dumps(wrong).encode())
    for text in (
        '{"evidence":{"id":"a","id":"a"}}',
        '{"evidence":{"alpha":0.001}}',
        '{"evidence":{"n":1234567890123456}}',
    ):
        with pytest.raises(Unreadable):
            opened(text.encode())


def test_the_bounds_are_the_core_s_though_they_share_no_code() -> None:
    from certify.service.core.certificate import level_bounds

    generator = np.random.default_rng(0)
    for _ in range(300):
        n = int(generator.integers(1, 5000))
        mine = int(generator.integers(0, n + 1))
        rival = int(generator.integers(0, n - mine + 1))
        errors = tuple(float(x) for x in 10 ** generator.uniform(-6, -1, 2))
        theirs = level_bounds(mine, rival, n, errors)
        assert verify._look(mine, rival, n, *errors) == pytest.approx(theirs, abs=2e-11)


def test_a_data_set_s_rows_have_their_certificates(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTIFY_SIGNING_KEY_FILE", str(key_file))
    data = tmp_path / "data"
    for name in ("3", "7"):
        (data / name).mkdir(parents=True)
        (data / name / "a.png").write_bytes(pictures.png(int(name)))
    (data / "3" / "broken.png").write_bytes(b"no picture")
    where = tmp_path / "certificates"
    options = ["--backend", "fake", "--samples", "2000", "--seed", "5", "--certificates", str(where)]
    code, _, err = certify("dataset", str(data), "--out", str(tmp_path / "t.tsv"), *options)
    assert code == 0, err
    files = sorted(where.glob("*.json"))
    assert len(files) == 2  # what is no picture has none
    jwks = tmp_path / "keys.json"
    jwks.write_text(json.dumps(key_set(read_signer(key_file).keys)))
    code, out, _ = certify("verify", "--key", str(jwks), *map(str, files))
    assert code == 0, out
    rows = (tmp_path / "t.tsv").read_text()
    for path in files:
        assert payload_of(path.read_bytes())["statement"]["radius"] in rows or "0.000000" in rows
    code, _, err = certify("dataset", str(data), "--out", str(tmp_path / "u.tsv"), "--policy", "first", *options)
    assert code == 1 and "certificates: expected none" in err
