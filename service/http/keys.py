"""Who asks: API keys from a file, so that each client has a name, a budget and a number of places.

A line for each client, with white space between; `#` begins a comment:

    # name      SHA-256 of its key (printf %s KEY | sha256sum)                          samples a minute   places
    camera-app  9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08        600000             8

The file holds no key, so whoever reads it cannot ask. It is read again when it changes (a Kubernetes Secret is), and a
file that then cannot be read leaves the clients as they were: a typing error must not lock everybody out.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ...models.files import read_text
from ..errors import SettingsError, Unauthorized

__all__ = ("ANYBODY", "ApiKeys", "Client", "network")

logger = logging.getLogger(__name__)

# A metric's label and a log's field: short, and of no odd characters.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# How soon a changed file is seen. Asking the file system costs microseconds, but not for every request of a flood.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Client:
    """Whoever holds one key."""

    name: str
    samples_a_minute: int | None  # None: no budget
    places: int | None  # requests at once; None: as many as there are
    peer: str = ""  # the network that it asks from, where nothing else tells clients apart

    @property
    def lane(self) -> str:
        """Whom turns and places go round by."""
        return f"{self.name} {self.peer}" if self.peer else self.name


# Without a file of keys.
ANYBODY = Client(name="anybody", samples_a_minute=None, places=None)


class ApiKeys:
    """`path` None: anybody may ask. Raises SettingsError when the file cannot be read at the start."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._stamp = _stamp(path) if path is not None else None
        self._clients = _read(path) if path is not None else {}

    @property
    def required(self) -> bool:
        return self._path is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Of every client in the file."""
        self._look_again()
        return tuple(client.name for client in self._clients.values()) if self.required else (ANYBODY.name,)

    def client(self, authorization: str | None, *, address: str | None = None) -> Client:
        """The client whose key the Authorization header carries; without a file, whoever asks from its network.

        address: the connection's, or what a trusted proxy says that it was. Raises Unauthorized.
        """
        if not self.required:
            return replace(ANYBODY, peer=network(address)) if address else ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip(" \t")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("Authorization: expected `Bearer KEY` with a key of this service, got none")
        self._look_again()
        # The bytes that came, in a client's UTF-8: web servers read a header as latin-1.
        given = hashlib.sha256(key.encode("latin-1", "replace")).hexdigest()
        found: Client | None = None
        # Every digest is compared whole: how long it takes says neither which client nor how near a guess was.
        for digest, client in self._clients.items():
            if hmac.compare_digest(digest, given):
                found = client
        if found is None:
            raise Unauthorized("Authorization: expected a key of this service, got another")
        return found

    def _look_again(self) -> None:
        now = self._clock()
        if self._path is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._clients, self._stamp = _read(self._path, waits=False), stamp
                logger.info("api keys read again", extra={"facts": {"clients": len(self._clients)}})
        except SettingsError as error:
            logger.error("api keys cannot be read again: those of before stay", extra={"facts": {"error": str(error)}})


@lru_cache(maxsize=1024)
def network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address, which one host may use all of; empty for anything else."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Address(int(ip) >> 64 << 64))
    return str(ip)


def _stamp(path: Path) -> tuple[int, int, int]:
    """What differs when the file does; a Secret's update puts another file in its place."""
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"CERTIFY_API_KEYS_FILE: expected a file that can be read: {error}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path, *, waits: bool = True) -> dict[str, Client]:
    """Digest -> client, in the file's order. waits: for a shell's <(...), at the start; later requests would wait."""
    try:
        lines = read_text(path, waits=waits).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"CERTIFY_API_KEYS_FILE: expected a text file: {error}") from error
    clients: dict[str, Client] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words:
            digest, client = _client(words, f"{path}, line {number}")
            if digest in clients or client.name in {other.name for other in clients.values()}:
                raise SettingsError(
                    f"{path}, line {number}: expected each name and key once, {client.name} is another's"
                )
            clients[digest] = client
    if not clients:
        raise SettingsError(f"CERTIFY_API_KEYS_FILE: expected at least one client in {path}, got none")
    return clients


def _client(words: list[str], where: str) -> tuple[str, Client]:
    if len(words) != 4:
        raise SettingsError(
            f"{where}: expected a name, the SHA-256 of a key, samples a minute and places, got {len(words)} words"
        )
    name, digest, samples, places = words
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{where}: expected a name of letters, digits, dots and dashes, at most 63")
    if not _DIGEST.fullmatch(digest.lower()):
        raise SettingsError(
            f"{where}: expected the 64 hexadecimal digits of a SHA-256 (of the key, not the key itself)"
        )
    numbers = []
    for what, text in (("samples a minute", samples), ("places", places)):
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:18]) and len(text) <= 18):
            raise SettingsError(f"{where}: {what}: expected a whole number from 1, got {text[:30]!r}")
        numbers.append(int(text))
    return digest.lower(), Client(name=name, samples_a_minute=numbers[0], places=numbers[1])
