"""Who says so: Ed25519 keys in PEM files, and the DSSE envelope around a certificate (docs/certificates.md).

A key file has one or several private keys (PKCS #8). The first signs; all are announced, so that a new key can stand
beside an old one until every verifier has it. Lines before a key may say from when until when it is good:

    Not-Before: 2026-11-26
    Not-After: 2027-11-26
    -----BEGIN PRIVATE KEY-----
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.files import read_bytes, read_text
from ..errors import DataError, SettingsError
from .evidence import canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ("PAYLOAD_TYPE", "PublicKey", "Signer", "envelope", "key_set", "new_key", "read_key_set", "read_signer")

PAYLOAD_TYPE = "application/vnd.certify.certificate.v1+json"
_KEY = re.compile(r"((?:^(?!-----).*\n)*)(^-----BEGIN [^\n]*\n[^-]*-----END [^\n]*-----$)", re.MULTILINE)
_DATE = re.compile(r"^(Not-Before|Not-After): *([0-9]{4}-[0-9]{2}-[0-9]{2})[ \t]*$", re.MULTILINE)
# Whatever is meant as one: a date that is passed over would make a key good for ever.
_MEANT = re.compile(r"^\W*not\W*(?:before|after)\b", re.MULTILINE | re.IGNORECASE)
_NEEDS = "signing needs cryptography (pip install 'certify[signing]')"


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """raw: 32 bytes. Good from the beginning of not_before until the beginning of not_after, UTC; None: always."""

    raw: bytes
    not_before: date | None = None
    not_after: date | None = None

    @property
    def id(self) -> str:
        """RFC 7638's thumbprint."""
        return _base64url(
            hashlib.sha256(canonical({"crv": "Ed25519", "kty": "OKP", "x": _base64url(self.raw)})).digest()
        )

    def good_at(self, when: datetime) -> bool:
        day = when.astimezone(UTC).date()
        return (self.not_before is None or self.not_before <= day) and (self.not_after is None or day < self.not_after)

    def jwk(self) -> dict[str, Any]:
        """RFC 8037; nbf and exp in seconds since 1970."""
        times = {"nbf": _seconds(self.not_before), "exp": _seconds(self.not_after)}
        return {
            "kty": "OKP", "crv": "Ed25519", "x": _base64url(self.raw), "kid": self.id, "use": "sig", "alg": "EdDSA",
            **{name: value for name, value in times.items() if value is not None},
        }  # fmt: skip


class Signer:
    """The keys of one file."""

    def __init__(self, private: Ed25519PrivateKey, keys: tuple[PublicKey, ...]) -> None:
        """private: of keys[0]."""
        self._private = private
        self.keys = keys

    @property
    def good(self) -> bool:
        """Whether it may sign today."""
        return self.keys[0].good_at(datetime.now(UTC))

    def sign(self, payload: bytes) -> bytes:
        """The envelope, JSON. Raises SettingsError when the key's time is over."""
        key = self.keys[0]
        if not self.good:
            raise SettingsError(f"CERTIFY_SIGNING_KEY_FILE: expected a key that is good today, and {key.id} is not")
        return envelope(payload, key.id, self._private.sign(_signing_bytes(payload)))


def _signing_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, key_id: str, signature: bytes) -> bytes:
    body = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return canonical(body)


def read_signer(path: Path) -> Signer:
    """Raises SettingsError naming what is wrong; the file's content is never quoted."""
    where = f"CERTIFY_SIGNING_KEY_FILE: {path}"
    try:
        text = read_text(path)
    except OSError as error:
        raise SettingsError(f"{where}: expected a file that can be read, got: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: expected a text file in UTF-8") from None
    found = _KEY.findall(text)
    if not found or len(found) < text.count("-----BEGIN "):
        got = "one that is not whole" if "-----BEGIN " in text else "none"
        raise SettingsError(f"{where}: expected a private key in PEM (certify keys new), got {got}")
    if len(_MEANT.findall(text)) > sum(len(_DATE.findall(before)) for before, _ in found):
        raise SettingsError(f"{where}: expected Not-Before and Not-After as `Not-After: 2026-11-26`, before their key")
    pairs = [(_private(pem.encode(), where), *_dates(before, where)) for before, pem in found]
    keys = tuple(
        PublicKey(raw=key.public_key().public_bytes_raw(), not_before=begin, not_after=end) for key, begin, end in pairs
    )
    if len(set(keys)) < len(keys):
        raise SettingsError(f"{where}: expected different keys")
    if not keys[0].good_at(datetime.now(UTC)):
        raise SettingsError(f"{where}: expected a first key that is good today, by its Not-Before and Not-After")
    return Signer(pairs[0][0], keys)


def _private(pem: bytes, where: str) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise SettingsError(f"{where}: {_NEEDS}: {error}") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise SettingsError(f"{where}: expected unencrypted private keys in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{where}: expected Ed25519 keys, got {type(key).__name__}")
    return key


def _dates(before: str, where: str) -> tuple[date | None, date | None]:
    given = _DATE.findall(before)
    try:
        found = {name: date.fromisoformat(day) for name, day in given}
    except ValueError as error:
        raise SettingsError(f"{where}: Not-Before, Not-After: expected dates as 2026-11-26, got: {error}") from None
    if len(found) < len(given):
        raise SettingsError(f"{where}: expected each of Not-Before and Not-After once for a key")
    return found.get("Not-Before"), found.get("Not-After")


def new_key(*, not_after: date | None = None) -> str:
    """A fresh key file's text."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as error:
        raise SettingsError(f"{_NEEDS}: {error}") from None
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    begin = f"Not-Before: {datetime.now(UTC).date()}\n"
    return begin + (f"Not-After: {not_after}\n" if not_after else "") + pem


def key_set(keys: tuple[PublicKey, ...]) -> dict[str, list[dict[str, Any]]]:
    """GET /v1/keys."""
    return {"keys": [key.jwk() for key in keys]}


def read_key_set(path: Path) -> dict[str, PublicKey]:
    """Public keys by their id: a JWK set, as GET /v1/keys gives it. Raises DataError."""
    try:
        entries = json.loads(read_bytes(path))["keys"]
        keys = [
            PublicKey(
                raw=_from_base64url(entry["x"]),
                not_before=_day(entry.get("nbf"), late=True),
                not_after=_day(entry.get("exp")),
            )
            for entry in entries
            if (entry["kty"], entry["crv"]) == ("OKP", "Ed25519")
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: expected a JWK set as GET /v1/keys gives it, got: {error}") from None
    if not keys or any(len(key.raw) != 32 for key in keys):
        raise DataError(f"{path}: expected Ed25519 keys of 32 bytes")
    return {key.id: key for key in keys}


def _seconds(day: date | None) -> int | None:
    return None if day is None else int(datetime.combine(day, time(), UTC).timestamp())


def _day(seconds: object, *, late: bool = False) -> date | None:
    """The day of these seconds since 1970; of a time within a day the next day, if late. Raises ValueError."""
    if seconds is None:
        return None
    if type(seconds) is not int:
        raise ValueError(f"nbf, exp: expected whole seconds, got {str(seconds)[:40]}")
    return datetime.fromtimestamp(seconds + (86_399 if late else 0), UTC).date()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
