"""A certificate's envelope: read strictly, so that there is one reading of it, and its signatures.

DSSE, the format of in-toto and sigstore, around canonical JSON (RFC 8785). It shares no code with the service, and
needs `cryptography` for signatures alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ("LARGEST", "PAYLOAD_TYPE", "Refused", "Unreadable", "canonical", "opened", "signers")

PAYLOAD_TYPE = "application/vnd.certify.certificate.v1+json"
_WHOLE_DIGITS = 15  # beyond, RFC 8785's numbers are not exact
_SEED_DIGITS = 20  # of the `seed` that `certify image` writes beside an answer
LARGEST = 64 * 2**20  # bytes of a file: 10,000 samples take 20 KB, and a hundred times as many classes a hundred times


class Unreadable(ValueError):
    """It is no certificate of a form that this file knows."""


class Refused(ValueError):
    """It is a certificate, and what it says does not follow."""


def opened(data: bytes) -> tuple[dict[str, Any], bytes, list[tuple[str, bytes]]]:
    """(payload, its bytes, [(key id, signature)]) of an envelope, or of what nobody signed. Raises Unreadable.

    Unsigned are a payload by itself, and an answer with it as `evidence`, in any layout: its bytes are the canonical
    form.
    """
    if len(data) > LARGEST:
        raise Unreadable(f"expected at most {LARGEST} bytes, got {len(data)}")
    outer = _json(data, anything=True)
    if "payloadType" not in outer and "payload" not in outer:
        written = _unsigned(outer)
        return _json(written), written, []
    if set(outer) != {"payloadType", "payload", "signatures"}:
        raise Unreadable(f"envelope: expected payloadType, payload and signatures, got {', '.join(sorted(outer))}")
    if outer["payloadType"] != PAYLOAD_TYPE:
        raise Unreadable(f"payloadType: expected {PAYLOAD_TYPE}, got {outer['payloadType']!r}")
    payload = _base64("payload", outer["payload"])
    signatures = outer["signatures"]
    if not isinstance(signatures, list) or not signatures:
        raise Unreadable("signatures: expected at least one")
    pairs = []
    for entry in signatures:
        if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"} or not isinstance(entry["keyid"], str):
            raise Unreadable("signatures: expected keyid and sig in each")
        pairs.append((entry["keyid"], _base64("sig", entry["sig"])))
    if len({name for name, _ in pairs}) < len(pairs):
        raise Unreadable("signatures: expected one of each key")
    return _json(payload), payload, pairs


def _unsigned(outer: Mapping[str, Any]) -> bytes:
    """The payload in its canonical form."""
    payload = outer.get("evidence", outer)
    if not isinstance(payload, dict):
        raise Unreadable("evidence: expected a payload, got none; an answer has it that was asked for with evidence")
    try:
        return canonical(payload)
    except (UnicodeEncodeError, RecursionError) as error:
        raise Unreadable(f"expected JSON, got {str(error)[:200]}") from None


def _signing_bytes(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def signers(payload: bytes, signatures: Sequence[tuple[str, bytes]], keys: Mapping[str, bytes]) -> list[str]:
    """Ids of those of `keys` (id -> 32 bytes of an Ed25519 public key) that signed. Raises Refused if one is forged.

    A signature by a key that is not among them says nothing.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = []
    for name, signature in signatures:
        if name not in keys:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(keys[name]).verify(signature, _signing_bytes(payload))
        except InvalidSignature:
            raise Refused(f"the signature of {name} is not of this payload") from None
        found.append(name)
    return found


def canonical(value: object) -> bytes:
    """RFC 8785's form of what a payload may hold: objects, lists, text, whole numbers, booleans and null."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _json(data: bytes, *, anything: bool = False) -> dict[str, Any]:
    """anything: numbers of any kind too, as an answer around a payload has them."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise Unreadable(f"expected each name once, got {', '.join(name for name, _ in pairs)[:200]}")
        return dict(pairs)

    def whole(text: str) -> int:
        if len(text) > (_SEED_DIGITS if anything else _WHOLE_DIGITS):
            raise Unreadable(f"expected whole numbers of at most {_WHOLE_DIGITS} digits, got {text[:30]}")
        return int(text)

    def real(text: str) -> float:
        if anything:
            return float(text)
        raise Unreadable(f"expected real numbers as text in quotes, got {text[:30]}")

    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_int=whole, parse_float=real, parse_constant=real
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Unreadable(f"expected JSON, got {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"expected a JSON object, got {type(value).__name__}")
    return value


def _base64(name: str, text: object) -> bytes:
    try:
        data = base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except ValueError:
        data = b""
    if not data or base64.b64encode(data).decode() != text:  # one spelling only
        raise Unreadable(f"{name}: expected base64")
    return data
