"""Numbers about a server, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Requests by path: answered, with their seconds, or abandoned; those in progress; batches and texts by service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("veco_requests", "requests answered", ["path", "status"], registry=self.registry)
        self._seconds = Histogram(
            "veco_request_seconds", "from request to answer", ["path"], buckets=SECONDS, registry=self.registry
        )
        self._abandoned = Counter(
            "veco_abandoned_requests", "clients that hung up before the answer", ["path"], registry=self.registry
        )
        self.in_progress = Gauge("veco_requests_in_progress", "requests not answered yet", registry=self.registry)
        self._batches = Histogram(
            "veco_batch_texts", "texts computed together", ["service"], buckets=SIZES, registry=self.registry
        )
        self._waiting = Gauge("veco_waiting_texts", "texts in the queue", ["service"], registry=self.registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def abandoned(self, path: str) -> None:
        """Count a request whose client has hung up before the answer."""
        self._abandoned.labels(path).inc()

    def batch(self, service: str, size: int) -> None:
        """Count a batch."""
        self._batches.labels(service).observe(size)

    def waiting(self, service: str, size: int) -> None:
        """Set how many texts wait."""
        self._waiting.labels(service).set(size)
