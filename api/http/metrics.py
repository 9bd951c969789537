"""Prometheus metrics of the service: one registry per application."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from retrieval.media import Modality

if TYPE_CHECKING:
    from retrieval.search.engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """Counters and histograms of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        durations = partial(Histogram, buckets=_SECONDS, registry=self._registry)
        self._requests = durations(
            "mmsearch_request_seconds",
            "Latency from the head of a request to the end of its answer.",
            ["method", "route", "status"],
        )
        self._stages = durations(
            "mmsearch_stage_seconds", "Duration of each stage of searches.", ["stage"]
        )
        self._queueing = durations(
            "mmsearch_queue_seconds",
            "Waiting time of requests in the queue of the inference thread.",
        )
        self._batches = Histogram(
            "mmsearch_batch_size",
            "Number of requests in a batch.",
            buckets=_SIZES,
            registry=self._registry,
        )
        self._depth = Gauge(
            "mmsearch_queue_depth",
            "Number of requests in the queue of the inference thread.",
            registry=self._registry,
        )
        self._tokens = Counter(
            "mmsearch_background_tokens",
            "Images whose tokens were made while nobody asked, by outcome.",
            ["outcome"],
            registry=self._registry,
        )
        self._token_queue = Gauge(
            "mmsearch_background_tokens_queue",
            "Images that were shown and wait for their tokens to be made.",
            registry=self._registry,
        )
        self._rejected = Counter(
            "mmsearch_rejected_requests",
            "Rejected and timed-out requests by reason.",
            ["reason"],
            registry=self._registry,
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. route: the path template, which keeps label values few."""
        self._requests.labels(method, route, status).observe(seconds)

    def observe_stages(self, timings_ms: Mapping[str, float]) -> None:
        """Record the stage durations of a search."""
        for stage, milliseconds in timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def observe_batch(self, size: int, waits_s: Sequence[float]) -> None:
        """Record the size of a batch, and the waiting time of each request."""
        self._batches.observe(size)
        for seconds in waits_s:
            self._queueing.observe(seconds)

    def reject(self, reason: str) -> None:
        """Count a rejected or timed-out request."""
        self._rejected.labels(reason).inc()

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Set the function that returns the queue length."""
        self._depth.set_function(depth)

    def count_tokens(self, *, made: bool) -> None:
        """Count an image whose tokens were made, or could not be."""
        self._tokens.labels("made" if made else "failed").inc()

    def watch_token_queue(self, depth: Callable[[], int]) -> None:
        """Set the function that returns the number of images that wait for tokens."""
        self._token_queue.set_function(depth)

    def watch_engine(self, engine: "Engine") -> None:
        """Add the metrics of an engine's library, indices and query cache."""
        self._registry.register(_EngineCollector(engine))

    def text(self) -> bytes:
        """Render all metrics in the format of Prometheus. Blocks: reads the catalog."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Collects the metrics of an engine at each scrape."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Read the rows of each modality and the counters of the query cache."""
        engine = self._engine
        rows = GaugeMetricFamily(
            "mmsearch_rows", "Rows of embeddings in the catalog.", labels=["modality"]
        )
        with engine.library.catalog.snapshot() as snapshot:
            for modality in Modality:
                rows.add_metric([modality], snapshot.row_count(engine.space.id, modality))
        yield rows
        generation = GaugeMetricFamily(
            "mmsearch_index_generation", "Generation of the index in use.", labels=["modality"]
        )
        for modality, number in engine.generations.items():
            generation.add_metric([modality], number)
        yield generation
        cache = engine.vector_cache
        for name, value in {"hits": cache.hits, "misses": cache.misses}.items():
            yield CounterMetricFamily(
                f"mmsearch_query_cache_{name}",
                f"Query texts whose vectors were {'' if name == 'hits' else 'not '}in the cache.",
                value=value,
            )
