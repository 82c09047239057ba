"""A server that cannot be had says why; one that is ended leaves nothing behind."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from certify.models.triton import download as module
from certify.models.triton.download import TritonUnavailable, check_platform, fetch
from certify.models.triton.server import TritonServer, free_ports


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


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
