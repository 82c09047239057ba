"""A certificate of each row, beside a table: `certify dataset --certificates DIR` (docs/certificates.md)."""

from __future__ import annotations

from pathlib import Path

from ...models.files import whole_file
from ..answering.evidence import payload_of
from ..answering.schemas import CertifyAnswer
from ..answering.signing import Signer
from ..errors import DataError

__all__ = ("Certificates",)


class Certificates:
    """DIR/IDX.json: the envelope where there is a key, else the payload alone. Raises DataError for no such folder."""

    def __init__(self, folder: Path, signer: Signer | None) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"certificates: expected a folder, got {folder}: {error.strerror}") from None
        self._folder, self._signer = folder, signer

    def put(self, idx: int, answer: CertifyAnswer) -> None:
        """answer: with its evidence."""
        assert answer.evidence is not None
        payload = payload_of(answer.evidence)
        with whole_file(self._folder / f"{idx}.json") as fresh:
            fresh.write_bytes(payload if self._signer is None else self._signer.sign(payload))
