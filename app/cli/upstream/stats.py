"""Counters of the stand-in's work."""

import time
from collections import Counter
from typing import Any


class Stats:
    """Counters since the start or the last reset; the count of requests in service survives a reset."""

    def __init__(self, *, is_tracking: bool = False) -> None:
        self.requests = 0
        self.by_status: Counter[str] = Counter()
        self.repeats = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self._seen: set[int] | None = set() if is_tracking else None
        self._started_at = self._changed_at = time.monotonic()
        self._busy_s = self._latency_s = 0.0

    def request_came(self, body: bytes) -> None:
        """Count a request; with tracking on, count a repeated body too."""
        self.requests += 1
        if self._seen is not None:
            # Keep 64 bits of a body: different bodies collide once in many billions.
            key = hash(body)
            if key in self._seen:
                self.repeats += 1
            else:
                self._seen.add(key)

    def service_began(self) -> None:
        """Count a request into service."""
        self._integrate()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def service_ended(self, latency_s: float) -> None:
        """Count a request out of service, `latency_s` seconds after its arrival."""
        self._integrate()
        self.in_flight -= 1
        self._latency_s += latency_s

    def reset(self) -> None:
        """Reset the counters."""
        self.requests = self.repeats = 0
        self.by_status.clear()
        self.max_in_flight = self.in_flight
        if self._seen is not None:
            self._seen.clear()
        self._started_at = self._changed_at = time.monotonic()
        self._busy_s = self._latency_s = 0.0

    def report(self, queued: int, capacity: int | None) -> dict[str, Any]:
        """Return the counters for GET /stats.

        `busy_s` is the integral over time of the requests in service. `latency_s` sums the seconds from arrival to the
        end of service, waiting included, over the requests whose service has ended, even if the client left.
        """
        self._integrate()
        return {
            "requests": self.requests,
            "answered": sum(self.by_status.values()),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "queued": queued,
            "capacity": capacity,
            "busy_s": round(self._busy_s, 6),
            "latency_s": round(self._latency_s, 6),
            "elapsed_s": round(time.monotonic() - self._started_at, 6),
            "by_status": dict(self.by_status),
            "repeats": self.repeats,
        }

    def _integrate(self) -> None:
        now = time.monotonic()
        self._busy_s += self.in_flight * (now - self._changed_at)
        self._changed_at = now
