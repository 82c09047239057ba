from __future__ import annotations

import hashlib
import io
import json
import logging
import uuid
from pathlib import Path

import httpx
import pytest

from certify.service.http.log import OnceAMinute
from tests import pictures
from tests.servers import in_process, real_process


def entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_entry_is_one_json_object_and_newlines_stay_inside(log_stream: io.StringIO) -> None:
    logging.getLogger("somewhere").warning("two\nlines %s", "\u2028", extra={"facts": {"count": 3}})
    (entry,) = entries(log_stream)
    assert (entry["level"], entry["logger"], entry["message"]) == ("warning", "somewhere", "two\nlines \u2028")
    assert entry["count"] == 3
    assert str(entry["time"]).endswith("+00:00")
    assert "request_id" not in entry


def test_an_exception_is_in_its_entry(log_stream: io.StringIO) -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("x").exception("failed")
    assert "RuntimeError: boom" in str(entries(log_stream)[0]["exception"])


@pytest.mark.anyio
async def test_a_backend_failure_is_logged_with_the_id_that_the_client_sees(
    log_stream: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "certify.service.http.problems")
    async with in_process() as service:
        service.backend.failing = True
        response = await service.client.post("/certify", files={"image": ("a.png", pictures.png())})
    (failure,) = [entry for entry in entries(log_stream) if "the backend failed" in str(entry["message"])]
    assert failure["request_id"] == response.headers["X-Request-ID"]
    assert failure["message"] == f"the backend failed: {response.json()['detail']}"
    assert "exception" not in failure  # while it is away every request fails: one line each


@pytest.mark.anyio
async def test_at_debug_a_backend_failure_says_where_it_came_from(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "certify.service.http.problems")
    async with in_process() as service:
        service.backend.failing = True
        await service.client.post("/certify", files={"image": ("a.png", pictures.png())})
    assert "told to fail" in caplog.text and "Traceback" in caplog.text


@pytest.mark.anyio
async def test_a_client_s_own_id_is_sent_back_and_logged_beside_ours(log_stream: io.StringIO) -> None:
    async with in_process() as service:
        headers = {"X-Request-ID": "order-17/a.b:c=", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        response = await service.client.post(
            "/v1/certify", files={"image": ("a.png", pictures.png())}, data={"samples": "1000"}, headers=headers
        )
    assert response.headers.get_list("X-Request-ID") == ["order-17/a.b:c="]
    (entry,) = [entry for entry in entries(log_stream) if entry["message"] == "request"]
    assert entry["client_request_id"] == "order-17/a.b:c=" and entry["trace_id"] == "a" * 32 and "span_id" not in entry
    assert entry["request_id"] == response.json()["id"] == str(uuid.UUID(response.json()["id"]))


@pytest.mark.anyio
@pytest.mark.parametrize("theirs", ["", "two words", "a" * 129, 'a"b', "a;b", "<b>", "\u00e9"], ids=ascii)
async def test_an_id_that_is_not_safe_is_neither_sent_back_nor_logged(log_stream: io.StringIO, theirs: str) -> None:
    async with in_process() as service:
        headers = {"X-Request-ID": theirs.encode(), "traceparent": b"00-" + b"0" * 32 + b"-" + b"b" * 16 + b"-01"}
        response = await service.client.get("/info", headers=headers)
    (entry,) = [entry for entry in entries(log_stream) if entry["message"] == "request"]
    assert entry["client_request_id"] is None and "trace_id" not in entry
    assert response.headers["X-Request-ID"] == entry["request_id"]


@pytest.mark.anyio
async def test_a_quiet_probe_is_only_logged_when_debugging(log_stream: io.StringIO) -> None:
    async with in_process() as service:
        logging.getLogger().setLevel("INFO")
        await service.client.get("/livez")
        await service.client.get("/info")
    assert [entry["path"] for entry in entries(log_stream) if entry["message"] == "request"] == ["/info"]


@pytest.mark.anyio
async def test_a_fault_is_logged_with_its_traceback_and_id(log_stream: io.StringIO) -> None:
    async with in_process() as service:
        object.__setattr__(service.gateway, "seed_key", None)
        response = await service.client.post("/certify", files={"image": ("a.png", pictures.png())})
    (fault,) = [entry for entry in entries(log_stream) if entry["message"] == "unexpected error"]
    assert f"urn:uuid:{fault['request_id']}" == response.json()["instance"]
    assert "Traceback" in str(fault["exception"])
    (request,) = [entry for entry in entries(log_stream) if entry["message"] == "request"]
    assert (request["status"], request["code"]) == (500, "internal_error")


def test_a_warning_of_the_server_comes_once_a_minute_and_all_else_always() -> None:
    now = 0.0
    once = OnceAMinute(lambda: now)

    def passes(level: int, message: str) -> bool:
        return once.filter(logging.LogRecord("uvicorn.error", level, "", 0, message, None, None))

    assert passes(logging.WARNING, "a") and passes(logging.WARNING, "b")
    assert passes(logging.ERROR, "a") and passes(logging.INFO, "a")
    now = 59.0
    assert not passes(logging.WARNING, "a") and passes(logging.ERROR, "a")
    now = 61.0
    assert passes(logging.WARNING, "a") and not passes(logging.WARNING, "a")


@pytest.mark.anyio
async def test_without_api_keys_the_log_says_at_start_that_anybody_may_ask(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        async with in_process():
            pass
    assert "there are no API keys: anybody who reaches this service may ask it" in caplog.messages


@pytest.mark.anyio
async def test_who_asked_is_named_with_the_address(log_stream: io.StringIO, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"camera-app {hashlib.sha256(b'secret').hexdigest()} 100000 4\n")
    async with in_process(api_keys_file=keys) as service:
        for authorization in ("Bearer secret", "Bearer other"):
            headers = {"Authorization": authorization}
            files = {"image": pictures.png()}
            await service.client.post("/v1/certify", files=files, data={"samples": "640"}, headers=headers)
    found = [entry for entry in entries(log_stream) if entry["message"] == "request"]
    assert [(entry["client"], entry["address"]) for entry in found] == [
        ("camera-app", "127.0.0.1"),
        (None, "127.0.0.1"),
    ]
    assert "secret" not in log_stream.getvalue()


def test_a_picture_whose_exif_is_cut_off_writes_nothing_into_the_log(tmp_path: Path) -> None:
    cut_off = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"  # five entries, of which a sixth of one is there
    with real_process(tmp_path / "log") as service:
        for size in ((8, 8), (700, 700)):  # decoded in this process, and in one of its own
            data = pictures.encoded(pictures.gray(size=size), "JPEG", exif=cut_off)
            files = {"image": ("a.jpg", data)}
            assert httpx.post(f"{service.url}/v1/certify", files=files, data={"resize": "true"}).status_code == 200
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sum(line["message"] == "request" for line in lines) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(("key", "warned"), [("z" * 32, True), ("0123456789abcdef" * 2, False)])
async def test_a_key_that_anybody_can_guess_is_warned_of_and_not_shown(
    log_stream: io.StringIO, key: str, warned: bool
) -> None:
    async with in_process(seed_key=key) as service:
        assert (await service.client.get("/livez")).status_code == 200
    assert any("anybody can guess it" in str(entry["message"]) for entry in entries(log_stream)) == warned
    assert key not in log_stream.getvalue()
