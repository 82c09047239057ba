"""What an endpoint is asked with: a bearer token from a file, which may change while the process runs."""

from __future__ import annotations

from pathlib import Path

from ..errors import RemoteError
from ..files import read_text

__all__ = ("Token",)

KEY = "CERTIFY_REMOTE_TOKEN_FILE"


class Token:
    """Read again when the file changes, as a Kubernetes Secret does. No message ever quotes it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None  # the file's time and size
        self._headers: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        """To send with a call; none without a file. Raises RemoteError."""
        if self._path is None:
            return {}
        try:
            facts = self._path.stat()
            if self._read_at != (now := (facts.st_mtime_ns, facts.st_size)):
                token = read_text(self._path, waits=self._read_at is None).strip()
                if not token or not token.isascii() or not token.isprintable() or " " in token:
                    raise RemoteError(
                        f"{KEY}: expected one word of printable ASCII in {self._path}, got something else"
                    )
                self._headers, self._read_at = {"authorization": f"Bearer {token}"}, now
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteError(f"{KEY}: expected a text file: {type(error).__name__}: {self._path}") from error
        return self._headers
