"""The example of docs/certificates.md: `python -m tests.certificates.example` prints another."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import tempfile
from pathlib import Path

from certify.envelope import opened
from certify.service.answering.signing import new_key, read_signer
from tests.certificates.vectors import made

__all__ = ("main",)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "key.pem"
        path.write_text(new_key())
        signer = read_signer(path)
        payload, _, ((key_id, signature),) = opened(asyncio.run(made(path, sigmas="0.25,1", samples="640")))
    (key,) = signer.keys
    text = json.dumps(payload, indent=2, sort_keys=True, ensure_ascii=False)
    text = re.sub(
        r"(\[[^][{}]*\])|({[^][{}]*})", lambda match: re.sub(r"\s+", " ", match[0]), text
    )  # innermost: a line
    signed = {"keyid": key_id, "sig": base64.b64encode(signature).decode()}
    sys.stdout.write(
        f"```json\n{text}\n```\n\n```json\n{json.dumps({'signature': signed, 'key': key.jwk()}, indent=2)}\n```\n"
    )


if __name__ == "__main__":
    main()
