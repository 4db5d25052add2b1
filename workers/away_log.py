"""Logs which servers are away: once a minute for a server, and not for every waiting line."""

from collections.abc import Sequence

import structlog

from app.adapters.upstream.balanced import Failing

log = structlog.get_logger()

_EVERY_S = 60.0
# A few failures among many answers are no news: the failed lines are called again.
_FAILING_S = 1.0


class AwayLog:
    """Logs the failing servers of an upstream; instants are seconds of a clock that never steps back."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._told_at: dict[str, float] = {}

    def look(self, failing: Sequence[Failing], lines_waiting: int, now: float) -> None:
        """Log every server that has been failing for a moment, at most once a minute."""
        self._told_at = {url: at for url, at in self._told_at.items() if now - at < _EVERY_S}
        for each in failing:
            if each.since_s < _FAILING_S or each.url in self._told_at:
                continue
            self._told_at[each.url] = now
            log.warning(
                "upstream.away",
                upstream=self._upstream,
                url=each.url,
                model=each.model,
                error=each.error,
                since_s=round(each.since_s, 1),
                lines_waiting=lines_waiting,
            )
