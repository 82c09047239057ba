"""Signing keys: in PEM files for the service, in JWK sets for whoever verifies; good from a day until a day."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")

from certify.service.answering.signing import PublicKey, key_set, new_key, read_key_set, read_signer
from certify.service.errors import DataError, SettingsError
from tests import pictures
from tests.certificates.vectors import FOLDER
from tests.servers import in_process

KEYS = FOLDER / "keys.json"


def test_a_key_whose_day_is_over_refuses_before_anything_is_drawn(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        async with in_process(signing_key_file=key_file) as service:
            monkeypatch.setattr(PublicKey, "good_at", lambda _self, _when: False)
            files = {"image": ("a.png", pictures.png())}
            refused = await service.client.post("/v1/certify", files=files, data={"signed": "true"})
            assert (refused.status_code, refused.json()["field"]) == (422, "signed")
            assert "no key that is good today" in refused.json()["detail"] and service.backend.calls == 0
            assert (await service.client.post("/v1/certify", files=files)).status_code == 200

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"nbf": 1e20}, "expected whole seconds"),
        ({"exp": 10**30}, "expected a JWK set"),
        ({"exp": True}, "expected whole seconds"),
        ({"x": 5}, "expected a JWK set"),
        ({"x": "AAAA"}, "expected Ed25519 keys of 32 bytes"),
    ],
)
def test_a_bad_key_set_is_refused_in_words(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    known = json.loads(KEYS.read_bytes())["keys"][0]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{**known, **entry}]}))
    with pytest.raises(DataError, match=said):
        read_key_set(path)
    path.write_text('{"keys":' + "[" * 100_000)
    with pytest.raises(DataError, match="expected a JWK set"):
        read_key_set(path)


def test_a_key_that_begins_or_ends_within_a_day_is_not_good_on_it(tmp_path: Path) -> None:
    known = json.loads(KEYS.read_bytes())["keys"][0]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{**known, "nbf": 86_400 + 1, "exp": 5 * 86_400 - 1}]}))
    (key,) = read_key_set(path).values()
    assert (key.not_before, key.not_after) == (date(1970, 1, 3), date(1970, 1, 5))


def test_keys_rotate_side_by_side_and_end_on_their_day(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(new_key(not_after=date(2999, 1, 1)) + new_key())
    signer = read_signer(both)
    assert len(signer.keys) == 2 and signer.keys[0].not_after == date(2999, 1, 1)
    jwks = tmp_path / "keys.json"
    jwks.write_text(json.dumps(key_set(signer.keys)))
    assert list(read_key_set(jwks).values()) == list(signer.keys)
    payload = json.loads(base64.b64decode(json.loads(signer.sign(b"{}"))["payload"]))
    assert payload == {}
    both.write_text(both.read_text().replace("2999-01-01", "2001-01-01"))
    with pytest.raises(SettingsError, match="a first key that is good today"):
        read_signer(both)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a private key in PEM"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected unencrypted private keys"),
        ("Not-After: 2026-13-45\n", "expected a private key in PEM"),
    ],
)
def test_a_bad_key_file_stops_the_start_in_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_signer(path)
    with pytest.raises(DataError):
        read_key_set(path)


def _after(text: str, line: str) -> str:
    """A fresh key's text with a line put behind its first."""
    first, rest = text.split("\n", 1)
    return f"{first}\n{line}\n{rest}"


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_key_file_from_windows_is_read_with_its_dates(tmp_path: Path, mark: str, end: str) -> None:
    path = tmp_path / "key.pem"
    text = f"Not-After: 2999-01-01\n{new_key()}"
    path.write_bytes(f"{mark}{text}".replace("\n", end).encode())
    (key,) = read_signer(path).keys
    assert key.not_after == date(2999, 1, 1) and key.not_before is not None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Not-After: 2999-1-1", "as `Not-After: 2026-11-26`"),
        ("not-after: 2999-01-01", "as `Not-After: 2026-11-26`"),
        ("# Not-After 2999-01-01", "as `Not-After: 2026-11-26`"),
        ("Not After : Nov 26 12:00:00 2999 GMT", "as `Not-After: 2026-11-26`"),
        ("Not-After: 2999-02-30", "expected dates"),
        ("Not-Before: 2001-01-01", "once for a key"),
    ],
)
def test_a_date_that_is_not_understood_is_refused_and_not_passed_over(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(_after(new_key(), line))
    with pytest.raises(SettingsError, match=said):
        read_signer(path)


def test_a_date_behind_its_key_and_a_key_that_is_cut_off_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(f"{new_key()}Not-After: 2999-01-01\n")
    with pytest.raises(SettingsError, match="before their key"):
        read_signer(path)
    cut_off = new_key().partition("-----END")[0]
    for text in (cut_off, cut_off + new_key(), new_key() + cut_off):  # else another key would sign
        path.write_text(text)
        with pytest.raises(SettingsError, match="one that is not whole"):
            read_signer(path)
