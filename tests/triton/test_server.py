"""A server that cannot be had says why; one that is ended leaves nothing behind."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from certify.models.triton import download as module
from certify.models.triton.download import TritonUnavailable, check_platform, fetch
from certify.models.triton.server import CLOSED, TritonServer, free_ports

ROOT = Path(__file__).parents[2]


def test_another_system_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(TritonUnavailable, match="Linux on x86_64 only; this is .* on arm64"):
        check_platform()


def test_a_python_without_a_stub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    with pytest.raises(TritonUnavailable, match=r"Python 3\.8 to 3\.13"):
        check_platform()


def offer(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """What pip does instead of downloading."""
    monkeypatch.setattr(module, "check_platform", lambda: None)
    monkeypatch.setattr(subprocess, "run", run)


def test_a_wheel_with_other_bytes_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "another.whl", "w") as wheel:
            wheel.writestr("pytriton/tritonserver/bin/tritonserver", "something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    offer(monkeypatch, download)
    with pytest.raises(TritonUnavailable, match=f"expected SHA-256 {module.WHEEL_SHA256}, got "):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_says_what_pip_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, lambda command, **_: subprocess.CompletedProcess(command, 1, "", "No matching distribution"))
    with pytest.raises(TritonUnavailable, match="could not download nvidia-pytriton.*No matching distribution"):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_server_that_was_not_started_has_no_process(tmp_path: Path) -> None:
    server = TritonServer(tmp_path)
    with pytest.raises(RuntimeError, match="not been started"):
        _ = server.pid
    server.stop()
    server.kill()


@pytest.mark.slow
def test_a_server_that_ends_at_once_says_so_and_where_its_log_is(tmp_path: Path, triton_home: Path) -> None:
    server = TritonServer(tmp_path / "no repository", log=tmp_path / "log", home=triton_home)
    with pytest.raises(TritonUnavailable, match=f"ended with code 1; its log is {tmp_path / 'log'}"):
        server.start()
    assert "no repository" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_killed_server_leaves_no_process_and_no_shared_memory(
    triton_repository: Path, triton_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(triton_repository, tmp_path / "repository")
    server = TritonServer(tmp_path / "repository", log=tmp_path / "log", home=triton_home)
    with server:
        pids = [server.pid, *server.stub_pids()]
        assert len(pids) == 3 and server.shared_memory()
        server.kill()
    assert not server.shared_memory()
    while any("triton" in _command(pid) for pid in pids):  # a killed process takes a moment to give its memory back
        time.sleep(0.01)


def listening(pid: int) -> set[tuple[str, int]]:
    """(hexadecimal address, port) of every TCP socket on which this process listens, as Linux shows them."""
    inodes = {os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in inodes:
                address, port = local.split(":")
                found.add((address.removeprefix("0000000000000000FFFF0000"), int(port, 16)))  # IPv4 seen from IPv6
    return found


def test_the_image_and_the_chart_close_the_same() -> None:
    for path in ("docker/triton.Dockerfile", "helm/certify/templates/triton-deployment.yaml"):
        text = (ROOT / path).read_text()
        for flag in CLOSED:
            assert flag in text


@pytest.mark.slow
def test_only_grpc_and_metrics_are_open_and_grpc_no_further_than_needed(triton_server: TritonServer) -> None:
    import grpc
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    here = "0100007F"  # 127.0.0.1
    assert listening(triton_server.pid) == {(here, triton_server.grpc_port), (here, triton_server.metrics_port)}
    with grpc.insecure_channel(triton_server.url) as channel:  # what Kubernetes' gRPC probes ask
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60) == b"\x08\x01"  # SERVING
    with InferenceServerClient(triton_server.url) as client:
        for call in (
            lambda headers: client.register_system_shared_memory("a", "/a", 64, headers=headers),
            lambda headers: client.get_system_shared_memory_status(headers=headers),
            lambda headers: client.update_trace_settings(settings={"trace_file": "/tmp/a"}, headers=headers),
            lambda headers: client.update_log_settings({"log_file": "/tmp/a"}, headers=headers),
        ):
            for headers in (None, {"triton-grpc-protocol-nobody": "has-this-key"}):
                with pytest.raises(InferenceServerException, match="restricted"):
                    call(headers)
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="not allowed"):
                change("mdds")


@pytest.mark.slow
def test_a_million_chunks_do_not_end_it(triton_repository: Path, triton_home: Path, tmp_path: Path) -> None:
    """What ended this version where its HTTP port was open, sent to the HTTP port that it still has."""
    with TritonServer(triton_repository, log=tmp_path / "log", home=triton_home) as server:
        for path in ("/metrics", "/v2/models/mdds/infer"):
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", server.metrics_port)) as attacker:
                try:
                    attacker.sendall(head + b"1\r\nA\r\n" * 1_000_000 + b"0\r\n\r\n")
                    attacker.settimeout(60)
                    attacker.recv(1_000)
                except OSError:
                    pass  # refused in the middle of it
            server.wait_ready(60)
            assert server.process.poll() is None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
