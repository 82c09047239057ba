"""A real Triton Inference Server on a plain Linux machine: no container, no GPU. `make triton` runs it.

    certify triton [--bundle digits] [--grpc-port 8001] [--metrics-port 8002]

Its programs are NVIDIA's (models.triton.download). The stub that runs `model.py` finds its interpreter's packages
through PATH and VIRTUAL_ENV; PYTHONPATH does not reach it.

In production the server is NVIDIA's container image; this module is for laptops and tests.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from .download import TritonUnavailable, fetch, libpython

__all__ = ("TritonServer", "free_ports", "serve")

# Nothing of ours asks for these: HTTP, where a body in a million chunks ends this version; memory shared with clients;
# traces and logs, whose settings name files to write. Headers arrive in lower case, so nobody has the key.
CLOSED = ("--allow-http=false", "--grpc-restricted-protocol=shared-memory,trace,logging:Nobody=has-this-key")
START_SECONDS = 180.0  # a cold disk reads torch's gigabyte slowly, once for each instance
STOP_SECONDS = 30.0  # the server itself waits that long for requests in flight


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
        """repository: as models.export writes it. Ports: None takes free ones. log: a file; None: inherited.

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
        """Until every model that was to be loaded is, and both ports listen. Raises TritonUnavailable."""
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        end = time.monotonic() + seconds
        where = f"; its log is {self._log}" if self._log else ""
        while time.monotonic() < end:
            if (code := self.process.poll()) is not None:
                raise TritonUnavailable(f"tritonserver ended with code {code}{where}")
            try:
                with InferenceServerClient(self.url) as client:
                    if client.is_server_ready(client_timeout=5) and _listens(self.metrics_port):
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


def _listens(port: int) -> bool:
    """Metrics come last, a moment after gRPC says that it is ready."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _environment(home: Path) -> dict[str, str]:
    library = libpython()
    assert library is not None  # check_platform()
    libraries = [str(home / "lib"), str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "VIRTUAL_ENV": sys.prefix,
        # Threads that wait must not spin: with shared cores, spinning made two threads ten times slower than one.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent's pid, command line) of every process that can be seen."""
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        parent = int(status.rsplit(")", 1)[1].split()[1])
        processes.append((int(folder.name), parent, command))
    return processes


def serve(
    bundle: str | Path,
    *,
    grpc_port: int = 8001,  # Triton's own two ports
    metrics_port: int = 8002,
    engine: str = "auto",  # the fastest that is installed here
    micro_batch: int | None = None,
    instances: int | None = None,
) -> None:
    """Export a bundle into a temporary repository and serve it until Ctrl-C or SIGTERM.

    bundle: a shipped one's name, or a folder. engine, micro_batch, instances: see models.export.export. Raises
    TritonUnavailable, BundleError, and ValueError as export does. Call it in the main thread: it takes SIGTERM.
    """
    from ..bundle import find_bundle
    from ..export import export

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="certify-triton-") as folder:
        repository = Path(folder) / "repository"
        export(find_bundle(bundle), repository, engine=engine, micro_batch=micro_batch, instances=instances)
        with TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port) as server:
            sys.stderr.write(f"\nready: certify serve --backend triton --triton-url {server.url}\n\n")
            try:
                server.process.wait()
            except KeyboardInterrupt:
                pass
