"""A real HTTP server of the digits classifier, by the open inference protocol and as plain JSON; it can lie."""

from __future__ import annotations

import base64
import io
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from certify.models.bundle import find_bundle
from certify.models.classifier import Classifier

MEAN = STD = 0.5  # the digits classifier's own
# (status, headers, answer) from what would be answered honestly.
Lie = Callable[[int, dict[str, Any]], tuple[int, dict[str, str], Any]]


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


class ModelServer:
    """`url`: of the model; `plain`: of the same as plain JSON. What tests change is read at each call."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        """certificate: its file and its key's; with it the server speaks TLS."""
        self._net = Classifier.from_folder(find_bundle("digits") / "classifier").net.eval().requires_grad_(False)
        self.metadata: dict[str, Any] | None = {
            "name": "digits",
            "versions": ["1"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
        }
        self.extensions: list[str] = []
        self.version = "1"
        self.token: str | None = None  # that calls must carry
        self.seconds = 0.0  # that a call takes
        self.arrived = 0  # calls whose pictures are here
        self.lie: Lie | None = None  # lie(number of the call, honest answer)
        self.calls: list[NDArray[np.float32]] = []  # pictures of each, pixels in the network's own scale
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        base = f"http{'' if certificate is None else 's'}://127.0.0.1:{self._http.server_address[1]}"
        self.url, self.plain = f"{base}/v2/models/digits", f"{base}/classify"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def logits(self, pictures: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
        """(number of the call, logits (N, 10)). One thread and one batch of 64 at a time, so that bits repeat."""
        with self._lock, torch.inference_mode():
            self.calls.append(pictures)
            padded = np.zeros((-(-len(pictures) // 64) * 64, *pictures.shape[1:]), np.float32)
            padded[: len(pictures)] = pictures
            answers = [self._net(batch).numpy() for batch in torch.from_numpy(padded).split(64)]
            return len(self.calls), np.concatenate(answers)[: len(pictures)]


@contextmanager
def model_server(certificate: tuple[Path, Path] | None = None) -> Iterator[ModelServer]:
    server = ModelServer(certificate)
    try:
        yield server
    finally:
        server.close()


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/v2":
                self._answer(200, {}, {"name": "a test's", "version": "1", "extensions": server.extensions})
            elif server.metadata is None:
                self._answer(404, {}, {"error": "no metadata"})
            else:
                self._answer(200, {}, server.metadata)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if server.token is not None and self.headers["authorization"] != f"Bearer {server.token}":
                self._answer(401, {}, {"error": "no"})
                return
            server.arrived += 1
            time.sleep(server.seconds)
            number, honest = (self._plain if self.path == "/classify" else self._oip)(body)
            self._answer(*((200, {}, honest) if server.lie is None else server.lie(number, honest)))

        def _oip(self, body: bytes) -> tuple[int, dict[str, Any]]:
            head = int(self.headers.get("inference-header-content-length", len(body)))
            request = json.loads(body[:head])
            (tensor,) = request["inputs"]
            if head < len(body):
                assert tensor["parameters"]["binary_data_size"] == len(body) - head
                values = np.frombuffer(body[head:], "<f4")
            else:
                values = np.array(tensor["data"], np.float32)
            assert tensor["name"] == "images"
            pictures = values.reshape(tensor["shape"])
            if tensor["datatype"] == "UINT8":  # (N, H, W, C), as the metadata that a test gives it says
                pictures = ((pictures / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
            number, logits = server.logits(np.ascontiguousarray(pictures))
            output = {
                "name": "logits",
                "datatype": "FP32",
                "shape": list(logits.shape),
                "data": logits.ravel().tolist(),
            }
            return number, {"model_name": "digits", "model_version": server.version, "outputs": [output]}

        def _plain(self, body: bytes) -> tuple[int, dict[str, Any]]:
            images = json.loads(body)["images"]
            if isinstance(images[0], str):
                pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in images]
                values = (np.stack(pixels)[:, None].astype(np.float32) / 255 - MEAN) / STD
            else:
                values = np.array(images, np.float32)
            number, logits = server.logits(values.astype(np.float32))
            return number, {"labels": logits.argmax(axis=1).tolist(), "scores": logits.tolist()}

        def _answer(self, status: int, headers: dict[str, str], answer: Any) -> None:
            if status == 0:  # the connection breaks
                self.close_connection = True
                return
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler
