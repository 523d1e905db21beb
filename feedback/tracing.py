"""Traces, by OpenTelemetry, where `tracing.endpoint` says so; otherwise nothing is imported and nothing is done.

Spans carry names, ids and numbers, never what anybody wrote: no prompt, no reply, no message of an error.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

from feedback.addresses import LOOPBACK
from feedback.operating_settings import TracingSettings

Kind = Literal["internal", "server", "client", "consumer"]
Value = str | int | float | bool | list[str]
EXPORT_INTERVAL_MS = 1000
NO_HEADERS: Mapping[str, str] = {}

_tracer: Any = None
_provider: Any = None


class Span:
    """Something that takes time. This one is kept nowhere: tracing is off."""

    def name(self, name: str) -> None:
        """Call it otherwise than it was begun."""

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """Add to what is said of it; None says nothing."""

    def fail(self, kind: str) -> None:
        """It went wrong; `kind` is the error's class or code, never its message."""

    def end(self) -> None:
        """It has ended. Again changes nothing."""

    def headers(self) -> dict[str, str]:
        """What a request carries, so that spans of the process it goes to stand below this one (W3C trace context)."""
        return {}


NOTHING = Span()


def configure(settings: TracingSettings, process: str) -> None:
    """Trace from now on, if that is set; at a process's entry, and in a forked one after the fork."""
    global _tracer, _provider  # noqa: PLW0603 - as for logging, one for the process
    if settings.endpoint is None or _tracer is not None:
        return
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    some = TraceIdRatioBased(settings.sample_share)
    here = {
        "service.name": "tandem",
        "service.namespace": process,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    # A client may name the trace that it belongs to, but not that it is kept.
    _provider = TracerProvider(
        sampler=ParentBased(some, remote_parent_sampled=some, remote_parent_not_sampled=some),
        resource=Resource.create(here),
    )
    session = requests.Session()
    # A proxy of the surroundings has no business between processes of one machine.
    session.trust_env = urlsplit(settings.endpoint).hostname not in LOOPBACK
    exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces", session=session)
    _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_INTERVAL_MS))
    _tracer = _provider.get_tracer("tandem")


def stop() -> None:
    """Send what is left, at a process's end."""
    global _tracer, _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def begin(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Value | None] | None = None,
    carrier: Mapping[str, str] = NO_HEADERS,
    links: Sequence[str] = (),
) -> Span:
    """A span below the current one, or below the one that a request's headers (`carrier`) name; the caller ends it."""
    if _tracer is None:
        return NOTHING
    return _Recorded(name, kind, attributes or {}, carrier, links)


def here() -> str | None:
    """The `traceparent` of the current span, for a span of another process to be linked to; None without one."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def current(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Value | None] | None = None,
    carrier: Mapping[str, str] = NO_HEADERS,
    links: Sequence[str] = (),
) -> Iterator[Span]:
    """The same for a block of code: spans begun within it stand below it, and an exception fails it. `links` are what
    `here` said where the block has its causes.
    """
    span = begin(name, kind, attributes, carrier, links)
    if not isinstance(span, _Recorded):
        yield span
        return
    from opentelemetry.trace import use_span

    try:
        with use_span(span.span, record_exception=False, set_status_on_exception=False):
            yield span
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()


class _Recorded(Span):
    def __init__(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Value | None],
        carrier: Mapping[str, str],
        links: Sequence[str],
    ) -> None:
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._propagator = TraceContextTextMapPropagator()
        context = self._propagator.extract(carrier) if carrier else None
        causes = [get_current_span(self._propagator.extract({"traceparent": link})) for link in links]
        linked = [Link(cause.get_span_context()) for cause in causes]
        self.span = _tracer.start_span(name, context, SpanKind[kind.upper()], links=linked)
        self.set(attributes)

    def name(self, name: str) -> None:
        self.span.update_name(name)

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        if self.span.is_recording():
            self.span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def fail(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode

        if self.span.is_recording():
            self.span.set_attribute("error.type", kind)
            self.span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        if self.span.is_recording():
            self.span.end()

    def headers(self) -> dict[str, str]:
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(self.span))
        return carrier
