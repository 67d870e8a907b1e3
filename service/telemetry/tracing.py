"""OpenTelemetry spans of calls, where `trace = true` asks for them: methods and codes, never what was asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from index.errors import StateError


class Span(Protocol):
    """One call."""

    def end(self, code: str) -> None:
        """It has been answered."""


class Tracer(Protocol):
    """Makes spans."""

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Span:
        """A call has come in."""

    def close(self) -> None:
        """Send what has not been sent."""


class _NoSpan:
    def end(self, code: str) -> None:
        """Nothing to say."""


class NoTracer:
    """For servers that do not trace."""

    _span = _NoSpan()

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Span:  # noqa: ARG002
        """Begin no span."""
        return self._span

    def close(self) -> None:
        """Do nothing."""


class _OpenSpan:
    def __init__(self, span: Any) -> None:  # noqa: ANN401  an extra
        self._span = span

    def end(self, code: str) -> None:
        self._span.set_attribute("rpc.grpc.status_code", code)
        self._span.end()


class OpenTelemetry:
    """Spans by OpenTelemetry, children of the caller's; sent where the usual OTEL_ variables say."""

    def __init__(self, exporter: Any = None) -> None:  # noqa: ANN401  an extra
        """Set up.

        Raises:
            StateError: If the extra is not installed.
        """
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ImportError:
            raise StateError("traces need OpenTelemetry: pip install 'semiome[trace]'") from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": "semiome"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("semiome.service")
        self._kind, self._propagator = SpanKind.SERVER, TraceContextTextMapPropagator()

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Span:
        """Begin a span of a call."""
        said = {key: value for key, value in metadata if key in ("traceparent", "tracestate")}
        _, service, name = method.split("/")
        values = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        context = self._propagator.extract(said)
        return _OpenSpan(self._tracer.start_span(method[1:], context=context, kind=self._kind, attributes=values))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
