"""service.http.keys: who asks is known by a key that the file does not hold."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from pathlib import Path

import pytest

from certify.service.errors import SettingsError, Unauthorized
from certify.service.http import keys as module
from certify.service.http.keys import ANYBODY, ApiKeys


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(name: str, key: str, samples: object = 60_000, places: object = 4) -> str:
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()} {samples} {places}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("# who may ask\n\n" + line("camera", "k1") + line("batch", "k2", 600_000, 64) + " # end\n")
    return file


def test_a_key_names_its_client(path: Path) -> None:
    keys = ApiKeys(path)
    assert keys.required and keys.names == ("camera", "batch")
    client = keys.client("Bearer k2")
    assert (client.name, client.samples_a_minute, client.places) == ("batch", 600_000, 64)
    assert keys.client("bearer  k1 ").name == "camera"


def test_a_file_from_windows_is_read(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert ApiKeys(path).names == ("camera", "batch")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic azE=", "k1", "Bearer k3", "Bearer k1k2", "Bearer \udcff"]
)
def test_anything_else_is_refused_without_quoting_it(path: Path, header: str | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        ApiKeys(path).client(header)
    assert "k1" not in str(caught.value) and "k3" not in str(caught.value)


def test_every_digest_is_compared_and_none_by_equality(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    whole = hmac.compare_digest

    def compare(a: str, b: str) -> bool:
        compared.append(a)
        return whole(a, b)

    keys = ApiKeys(path)
    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    keys.client("Bearer k1")
    first = list(compared)
    compared.clear()
    with pytest.raises(Unauthorized):
        keys.client("Bearer nobody's")
    assert len(first) == len(compared) == 2


def test_without_a_file_anybody_may_ask() -> None:
    assert ApiKeys(None).client(None) is ANYBODY and not ApiKeys(None).required


def test_without_a_file_whoever_asks_from_one_network_is_one_client() -> None:
    keys = ApiKeys(None)
    addresses = (
        "192.0.2.1",
        "192.0.2.2",
        "::ffff:192.0.2.1",
        "2001:db8::1",
        "2001:db8::9:1",
        "2001:db8:0:1::1",
        "unix:",
    )
    clients = [keys.client(None, address=address) for address in addresses]
    assert {client.name for client in clients} == {ANYBODY.name}  # metrics and logs know no addresses
    one, two, mapped, host, neighbour, other, nowhere = (client.lane for client in clients)
    assert one == mapped and host == neighbour and nowhere == ANYBODY.lane
    assert len({one, two, host, other, nowhere}) == 5


def test_with_a_file_an_address_says_nothing(path: Path) -> None:
    keys = ApiKeys(path)
    assert keys.client("Bearer k1", address="192.0.2.1").lane == keys.client("Bearer k1", address="192.0.2.2").lane


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    keys = ApiKeys(path, clock=clock)
    path.write_text(line("new", "k9"))
    assert keys.client("Bearer k1").name == "camera"  # not looked at for every request
    clock.now = 2.0
    with caplog.at_level(logging.INFO):
        assert keys.client("Bearer k9").name == "new"
    with pytest.raises(Unauthorized):
        keys.client("Bearer k1")
    for broken in ("nonsense\n", ""):
        path.write_text(broken)
        clock.now += 2.0
        assert keys.client("Bearer k9").name == "new"
    path.unlink()
    clock.now += 2.0
    assert keys.client("Bearer k9").name == "new"
    os.mkfifo(path)  # reading it would wait for whoever writes, and every request with it
    clock.now += 2.0
    assert keys.client("Bearer k9").name == "new"
    assert [record.levelname for record in caplog.records].count("ERROR") == 4
    assert "expected a file, got a FIFO" in str(vars(caplog.records[-1])["facts"])
    path.unlink()
    path.write_text(line("back", "k1"))
    clock.now += 2.0
    assert keys.client("Bearer k1").name == "back"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "at least one client"),
        ("camera\n", "got 1 words"),
        ("camera k1 1 1\n", "64 hexadecimal digits"),
        (line("a b", "k"), "got 5 words"),
        (line('"x"', "k"), "a name of letters"),
        (line("a", "k", samples=0), "samples a minute"),
        (line("a", "k", samples="1e6"), "samples a minute"),
        (line("a", "k", places="many"), "places"),
        (line("a", "k", places="9" * 400), "places"),
        (line("a", "k") + line("a", "l"), "line 2: expected each name and key once"),
        (line("a", "k") + line("b", "k"), "line 2: expected each name and key once"),
    ],
)
def test_a_file_that_is_wrong_stops_the_start(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(SettingsError, match=expected):
        ApiKeys(file)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CERTIFY_API_KEYS_FILE"):
        ApiKeys(tmp_path / "none")


@pytest.mark.parametrize("key", ["clé", "ключ à", "鍵\N{NO-BREAK SPACE}"])
def test_a_key_of_any_characters_is_the_bytes_that_a_client_sends(key: str, tmp_path: Path) -> None:
    """curl sends UTF-8, and what a web server hands on of a header is latin-1."""
    (tmp_path / "keys").write_text(line("odd", key))
    assert ApiKeys(tmp_path / "keys").client(f"Bearer {key}".encode().decode("latin-1")).name == "odd"
