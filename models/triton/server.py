"""A real Triton Inference Server on a plain Linux machine: no container, no GPU. `make triton` runs it.

    python -m models.triton.server [--bundle digits] [--grpc-port 8001] [--metrics-port 8002]

NVIDIA publishes the server inside a wheel, `nvidia-pytriton`. Its own Python package is not wanted (it pins old
versions of ours), so the wheel is downloaded without dependencies, checked against its SHA-256 and unpacked beside the
environment: the `tritonserver` program, its Python backend, and one "stub" that runs `model.py` for each version of
Python. The stub finds its interpreter's packages through PATH and VIRTUAL_ENV; PYTHONPATH does not reach it.

In production the server is NVIDIA's container image; this module is for laptops and tests.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

__all__ = ("CACHE", "TritonServer", "TritonUnavailable", "check_platform", "fetch", "free_ports")

WHEEL = "nvidia-pytriton==0.7.0"  # the last with tritonserver inside: 2.51, with known holes; see CLOSED
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
# Nothing of ours asks for these: HTTP, where a body in a million chunks ends this version; memory shared with clients;
# traces and logs, whose settings name files to write. Headers arrive in lower case, so nobody has the key.
CLOSED = ("--allow-http=false", "--grpc-restricted-protocol=shared-memory,trace,logging:Nobody=has-this-key")
CACHE = Path(__file__).resolve().parents[2] / ".triton"  # in the checkout, ignored by git
START_SECONDS = 180.0  # a cold disk reads torch's gigabyte slowly, once for each instance
STOP_SECONDS = 30.0  # the server itself waits that long for requests in flight


class TritonUnavailable(Exception):
    """The server cannot run here; the message says why and what would be needed."""


def fetch(cache: Path = CACHE) -> Path:
    """The server's folder, downloaded (57 MB) and unpacked (150 MB) on the first call. Raises TritonUnavailable."""
    check_platform()
    home = cache / WHEEL.replace("==", "-")
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Unpacked beside its place and moved there whole: a command that is stopped leaves nothing half done.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unpacked = Path(folder) / "home"
            _unpack(_download(Path(folder)), unpacked)
            os.rename(unpacked, home)
    return home


def check_platform() -> None:
    """Raise TritonUnavailable, with the reason, where the wheel's programs cannot run."""
    if (system := (platform.system(), platform.machine())) != ("Linux", "x86_64"):
        raise TritonUnavailable(f"the wheel has programs for Linux on x86_64 only; this is {' on '.join(system)}")
    if not (3, 8) <= sys.version_info[:2] <= (3, 13):
        raise TritonUnavailable(f"the wheel has stubs for Python 3.8 to 3.13; this is {platform.python_version()}")
    if _libpython() is None:
        raise TritonUnavailable(f"the stub needs a shared {_libpython_name()}, which this Python does not have")


def free_ports(count: int) -> list[int]:
    """TCP ports that were free a moment ago, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class TritonServer:
    """One server process on 127.0.0.1, as a context manager. It must be stopped, killed or left through `with`."""

    def __init__(
        self,
        repository: Path,
        *,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        log: Path | None = None,
        arguments: Sequence[str] = (),
        home: Path | None = None,
    ) -> None:
        """repository: as `models.export` writes it. Ports: None takes free ones. log: a file; None: inherited.

        arguments: more of tritonserver's own options. home: fetch()'s folder.
        """
        self.repository = repository
        free = free_ports(2)
        self.grpc_port = grpc_port or free[0]
        self.metrics_port = metrics_port or free[1]
        self.arguments = tuple(arguments)
        self._log = log
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._region = f"certify-{os.getpid()}-{self.grpc_port}-"  # of its files in /dev/shm

    @property
    def url(self) -> str:
        """HOST:PORT of gRPC."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until its models are ready. Raises TritonUnavailable if it ends or takes too long."""
        home = self._home or fetch()
        # fmt: off
        command = [
            str(home / "bin" / "tritonserver"),
            "--model-repository", str(self.repository),
            "--backend-directory", str(home / "backends"),
            # After 30 s, the default, a stub that still reads torch from a cold and busy disk would count as dead, and
            # the server would end with it.
            "--backend-config", f"python,stub-timeout-seconds={int(START_SECONDS)}",
            # An image and a handful of votes need little shared memory; 64 MB a stub is the default.
            "--backend-config", "python,shm-default-byte-size=4194304",
            "--backend-config", "python,shm-growth-byte-size=1048576",
            "--backend-config", f"python,shm-region-prefix-name={self._region}",
            *CLOSED,
            "--grpc-address", "127.0.0.1", "--grpc-port", str(self.grpc_port),
            "--metrics-address", "127.0.0.1", "--metrics-port", str(self.metrics_port),
            "--exit-timeout-secs", str(int(STOP_SECONDS)),
            *self.arguments,
        ]
        # fmt: on
        output = self._log.open("ab") if self._log else None
        try:
            # A session of its own: Ctrl-C reaches us alone, and stop() can end the stubs with the server.
            self._process = subprocess.Popen(
                command, env=_environment(home), stdout=output, stderr=output, start_new_session=True
            )
        finally:
            if output:
                output.close()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Until every model that was to be loaded is. Raises TritonUnavailable."""
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        end = time.monotonic() + seconds
        where = f"; its log is {self._log}" if self._log else ""
        while time.monotonic() < end:
            if (code := self.process.poll()) is not None:
                raise TritonUnavailable(f"tritonserver ended with code {code}{where}")
            try:
                with InferenceServerClient(self.url) as client:
                    if client.is_server_ready(client_timeout=5):
                        return
            except InferenceServerException:
                pass  # it does not listen yet
            time.sleep(0.1)
        raise TritonUnavailable(f"tritonserver was not ready within {seconds:g} seconds{where}")

    def stub_pids(self) -> list[int]:
        """Processes that run model.py, one for each instance."""
        return [pid for pid, parent, name in _processes() if parent == self.pid and "triton_python" in name]

    def shared_memory(self) -> list[Path]:
        """Files through which the server and its stubs hand tensors over."""
        return list(Path("/dev/shm").glob(f"{self._region}*"))

    def stop(self) -> None:
        """End it as Kubernetes would: SIGTERM, and SIGKILL when it does not end. A second call does nothing."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)  # a paused process hears nothing
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS + 10)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and its stubs, and remove the shared memory that they could then not give back."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process = None
        for region in self.shared_memory():
            region.unlink(missing_ok=True)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _say(f"downloading {WHEEL}, 57 MB, once")
    done = subprocess.run([*command, "--dest", str(folder), WHEEL], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise TritonUnavailable(f"pip could not download {WHEEL}: {done.stderr.strip()[-500:]}")
    (wheel,) = wheels
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != WHEEL_SHA256:
        raise TritonUnavailable(f"{WHEEL}: expected SHA-256 {WHEEL_SHA256}, got {found}")
    return wheel


def _unpack(wheel: Path, home: Path) -> None:
    """bin/, lib/ and backends/python/, with this Python's stub among the backend's files."""
    server = "pytriton/tritonserver"
    stub = f"{server}/python_backend_stubs/{sys.version_info[0]}.{sys.version_info[1]}/"
    places = {f"{server}/bin/": "bin", f"{server}/backends/python/": "backends/python", stub: "backends/python"}
    places["nvidia_pytriton.libs/"] = "lib"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            for prefix, place in places.items():
                if name.startswith(prefix) and not name.endswith("/"):
                    target = home / place / name.removeprefix(prefix)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy)
                    target.chmod(0o755)


def _environment(home: Path) -> dict[str, str]:
    libpython = _libpython()
    assert libpython is not None  # check_platform()
    libraries = [str(home / "lib"), str(libpython.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "VIRTUAL_ENV": sys.prefix,
        # Threads that wait must not spin: with shared cores, spinning made two threads ten times slower than one.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _libpython_name() -> str:
    return f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def _libpython() -> Path | None:
    places = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
    candidates = (Path(place) / _libpython_name() for place in places if place)
    return next((path for path in candidates if path.exists()), None)


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent's pid, command line) of every process that can be seen."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        parent = int(status.rsplit(")", 1)[1].split()[1])
        found.append((int(folder.name), parent, command))
    return found


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> None:
    """Export a bundle into a temporary repository and serve it until Ctrl-C or SIGTERM."""
    from ..bundle import find_bundle
    from ..engines import ENGINES
    from ..export import ENGINE, export

    parser = argparse.ArgumentParser(prog="python -m models.triton.server", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", default="digits", help="a shipped bundle's name or a folder (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8001, help="default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=8002, help="default: %(default)s")
    parser.add_argument("--engine", choices=("auto", *ENGINES), default=ENGINE, help="default: %(default)s")
    parser.add_argument("--micro-batch", type=int, help="samples computed together (default: the CPU's)")
    parser.add_argument("--instances", type=int, help="worker processes (default: one for each core)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="certify-triton-") as folder:
        repository = Path(folder) / "repository"
        export(
            find_bundle(arguments.bundle), repository, engine=arguments.engine, micro_batch=arguments.micro_batch,
            instances=arguments.instances,
        )  # fmt: skip
        server = TritonServer(repository, grpc_port=arguments.grpc_port, metrics_port=arguments.metrics_port)
        with server:
            _say(f"\nready: certify serve --backend triton --triton-url {server.url}\n")
            try:
                server.process.wait()
            except KeyboardInterrupt:
                pass


if __name__ == "__main__":
    try:
        main()
    except TritonUnavailable as error:
        raise SystemExit(f"error: {error}") from None
