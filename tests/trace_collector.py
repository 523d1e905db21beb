"""A collector of traces for tests: takes OTLP over HTTP, as OpenTelemetry's own does, and shows what came."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from feedback import tracing
from feedback.operating_settings import TracingSettings

# Of a client, in its header `traceparent`.
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    process: str
    links: list[str]
    """Ids of the spans that it is linked to."""


class Collector:
    """`with` starts and ends it; `raw` is everything that was sent."""

    def __enter__(self) -> "Collector":
        self.spans: list[Seen] = []
        self.raw = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    content = gzip.decompress(content)
                assert self.path == "/v1/traces"
                collector.raw += content
                collector.spans += list(_spans(ExportTraceServiceRequest.FromString(content)))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, wanted: Callable[[Seen], bool], count: int = 1) -> list[Seen]:
        """The first `count` spans that are wanted."""
        deadline = time.monotonic() + 60
        while len(found := [span for span in self.spans if wanted(span)]) < count:
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)
        return found[:count]


@contextmanager
def collecting(sample_share: float = 1.0) -> Iterator[Collector]:
    """Of the spans of this process."""
    with Collector() as collector:
        tracing.configure(TracingSettings(endpoint=collector.url, sample_share=sample_share), "test")
        try:
            yield collector
        finally:
            tracing.stop()


def _spans(request: ExportTraceServiceRequest) -> Any:
    for resource in request.resource_spans:
        process = {entry.key: entry.value.string_value for entry in resource.resource.attributes}["service.namespace"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    span.name,
                    SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {entry.key: _value(entry.value) for entry in span.attributes},
                    span.status.code == Status.STATUS_CODE_ERROR,
                    process,
                    [link.span_id.hex() for link in span.links],
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
