"""A collector of spans as OpenTelemetry's own is: OTLP over gRPC, or over HTTP in protobuf, packed or not."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


@dataclass
class Collector:
    url: str
    resources: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)  # opentelemetry.proto.trace.v1.Span

    def take(self, request: Any) -> Any:
        for each in request.resource_spans:
            self.resources.append(attributes(each.resource))
            self.spans += [span for scope in each.scope_spans for span in scope.spans]
        return messages.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def wait(self, condition: Callable[[], object]) -> None:
        """The test's own time limit is the only clock."""
        while not condition():
            time.sleep(0.05)


def attributes(of: Any) -> dict[str, Any]:
    """Of a span or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextlib.contextmanager
def over_http() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            request = messages.ExportTraceServiceRequest.FromString(gzip.decompress(body) if packed else body)
            right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            answer = collector.take(request).SerializeToString() if right else b""
            self.send_response(200 if right else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()


@contextlib.contextmanager
def over_grpc() -> Iterator[Collector]:
    class Service(services.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            return collector.take(request)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    services.add_TraceServiceServicer_to_server(Service(), server)
    collector = Collector(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
