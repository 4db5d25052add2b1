"""What the stand-in counts of its own work."""

import time
from collections import Counter
from typing import Any


class Stats:
    """Counters since the start or the last reset; those of work at hand survive a reset."""

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
        """Count a request, and with tracking whether its body came before."""
        self.requests += 1
        if self._seen is not None:
            # 64 bits kept from each body; two that differ meet once in many billions.
            key = hash(body)
            if key in self._seen:
                self.repeats += 1
            else:
                self._seen.add(key)

    def service_began(self) -> None:
        """Count one more request in service."""
        self._integrate()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def service_ended(self, latency_s: float) -> None:
        """Count one request in service less, so long after it came."""
        self._integrate()
        self.in_flight -= 1
        self._latency_s += latency_s

    def reset(self) -> None:
        """Start all counters anew."""
        self.requests = self.repeats = 0
        self.by_status.clear()
        self.max_in_flight = self.in_flight
        if self._seen is not None:
            self._seen.clear()
        self._started_at = self._changed_at = time.monotonic()
        self._busy_s = self._latency_s = 0.0

    def report(self, queued: int, capacity: int | None) -> dict[str, Any]:
        """Return what GET /stats says.

        `busy_s` is the integral over time of the requests in service; `latency_s` the sum over those whose service has
        ended, also by a client that left, of the seconds since they came: what they waited, and what they were served.
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
