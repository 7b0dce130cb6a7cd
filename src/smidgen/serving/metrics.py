"""What a server counts, in Prometheus's text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from smidgen.serving.exchange import FinalEvent
    from smidgen.serving.scheduler import Scheduler

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Meters:
    """The figures of one server.

    Args:
        scheduler: Whose models and queue are shown.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "smidgen_answers", "Answers that were written to their end.", ["model", "reason"], registry=self._registry
        )
        self._tokens = Counter(
            "smidgen_tokens", "Tokens that were read and written.", ["model", "kind"], registry=self._registry
        )
        self._seconds = Histogram(
            "smidgen_answer_seconds",
            "Time of whole answers.",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._requests = Counter(
            "smidgen_http_requests", "Requests by status.", ["method", "status"], registry=self._registry
        )
        waiting = Gauge("smidgen_waiting_requests", "Requests that wait for a slot.", registry=self._registry)
        waiting.set_function(lambda: scheduler.waiting)
        loaded = Gauge("smidgen_loaded_models", "Models in memory.", registry=self._registry)
        loaded.set_function(lambda: len(scheduler.running()))
        active = Gauge("smidgen_active_requests", "Requests that are being answered.", registry=self._registry)
        active.set_function(lambda: sum(each.active for each in scheduler.running()))
        memory = Gauge("smidgen_model_bytes", "Memory of all loaded models.", registry=self._registry)
        memory.set_function(lambda: sum(each.bytes for each in scheduler.running()))

    def answered(self, model: str, final: FinalEvent) -> None:
        """Count an answer."""
        self._answers.labels(model, final.reason).inc()
        self._tokens.labels(model, "prompt").inc(final.prompt_tokens)
        self._tokens.labels(model, "generated").inc(final.generated_tokens)
        if final.drafted_tokens:
            self._tokens.labels(model, "drafted").inc(final.drafted_tokens)
            self._tokens.labels(model, "accepted").inc(final.accepted_tokens)
        self._seconds.labels(model).observe(final.total_seconds)

    def asked(self, method: str, status: int) -> None:
        """Count a request."""
        known = method if method in ("GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS") else "other"
        self._requests.labels(known, str(status)).inc()

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)
