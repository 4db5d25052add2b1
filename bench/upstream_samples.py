"""Samples of the stand-in upstream's counters while a batch runs."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx

_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Sample:
    """The upstream's counters at a moment, and the workers' limit on calls in flight.

    `busy_s` is the integral of the requests in service, `latency_s` the sum of the answered requests' latencies.
    """

    at_s: float
    busy_s: float
    latency_s: float
    requests: int
    served: int
    refused: int
    in_service: int
    queued: int
    limit: int


class UpstreamSampler:
    """Asks the upstream for its counters, in a thread of its own, until the end of the block.

    Args:
        url: the upstream's base URL.
        limit: returns the workers' limit on calls in flight.
    """

    def __init__(self, url: str, limit: Callable[[], int] = lambda: 0) -> None:
        self.samples: list[Sample] = []
        self._stats_url = f"{url.removesuffix('/v1')}/stats"
        self._limit = limit
        self._has_begun = threading.Event()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "UpstreamSampler":
        self._thread.start()
        # The first sample must come before the first request.
        self._has_begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _sample(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self._is_done.is_set():
                self.samples.append(self._asked(client))
                self._has_begun.set()
                self._is_done.wait(_SAMPLE_S)

    def _asked(self, client: httpx.Client) -> Sample:
        limit, stats = self._limit(), client.get(self._stats_url).json()
        return Sample(
            stats["elapsed_s"],
            stats["busy_s"],
            stats["latency_s"],
            stats["requests"],
            stats["by_status"].get("200", 0),
            stats["by_status"].get("429", 0),
            stats["in_flight"],
            stats["queued"],
            limit,
        )


def between_dispatches(samples: list[Sample], lines: int) -> list[Sample]:
    """Return the samples from the last before the first request to the last with lines still to be sent.

    After the last sample, the lines left may be fewer than the upstream's capacity.
    """
    waiting = [sample for sample in samples if sample.requests == 0]
    sending = [sample for sample in samples if sample.requests > 0 and sample.requests - sample.refused < lines]
    return [waiting[-1], *sending]
