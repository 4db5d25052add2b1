"""Quarantine for lines that may have crashed several workers: a line is noted in the database while it runs."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.domain import result
from app.domain.line import read_request
from app.domain.line_model import read_model
from app.domain.result import Result
from app.services.execution import OutOfTime, Retry
from app.services.ports import TrialStore
from workers.line_run import Line

log = structlog.get_logger()

# A line begun this often without an end, as the only quarantined line of its process, is the cause of the crashes.
_MAX_TRIALS = 3
# Pause of a line that can't be noted while the database is away: the line does not begin.
_NOTE_AGAIN_S = 2.0

Outcome = Result | Retry | OutOfTime


class Quarantine:
    """Watches one line at a time: if a line crashes the process, the next process finds the line noted."""

    def __init__(self, trials: TrialStore) -> None:
        self._trials = trials

    async def watch(self, line: Line, data: bytes, attempt: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Make the attempt, or return an error result if the line was begun too often."""
        loop, at = asyncio.get_running_loop(), (line.run.batch.id, line.position)
        try:
            begun = await loop.run_in_executor(None, self._trials.begin, *at)
        except Exception:
            log.warning("trial.not_noted", batch_id=at[0], position=at[1], exc_info=True)
            return Retry(_NOTE_AGAIN_S, line.tries, line.met)
        if begun >= _MAX_TRIALS:
            log.error("line.given_up", batch_id=at[0], position=at[1], begun=begun)
            request = read_request(data)
            payload = result.unanswered(*at, request.custom_id, *result.WORKER_LOST)
            return Result(*at, False, payload, result.NO_USAGE, read_model(request.body))
        try:
            return await attempt()
        finally:
            await self._end(*at)

    async def _end(self, batch_id: str, position: int) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._trials.end, batch_id, position)
        except Exception:
            # The line counts as begun and not ended. It becomes an error only if noting the end fails every time.
            log.warning("trial.not_ended", batch_id=batch_id, position=position, exc_info=True)
