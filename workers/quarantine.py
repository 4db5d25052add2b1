"""Lines that may be what ended one worker after another: noted in the database while they run."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.domain import result
from app.domain.line import read_request
from app.domain.result import Result
from app.services.execution import OutOfTime, Retry
from app.services.ports import TrialStore
from workers.line_run import Line

log = structlog.get_logger()

# A line that was begun this often, alone of its kind in its process, and never came to an end is what ends them.
_MAX_TRIALS = 3
# A line that can't be noted, since the database is away, is not begun.
_NOTE_AGAIN_S = 2.0

Outcome = Result | Retry | OutOfTime


class Quarantine:
    """Watches one line at a time: what its process does not survive, the next one finds noted."""

    def __init__(self, trials: TrialStore) -> None:
        self._trials = trials

    async def watch(self, line: Line, data: bytes, attempt: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Make the attempt, or return an error where the line was begun too often."""
        loop, at = asyncio.get_running_loop(), (line.run.batch.id, line.position)
        try:
            begun = await loop.run_in_executor(None, self._trials.begin, *at)
        except Exception:
            log.warning("trial.not_noted", batch_id=at[0], position=at[1], exc_info=True)
            return Retry(_NOTE_AGAIN_S, line.tries, line.met)
        if begun >= _MAX_TRIALS:
            log.error("line.given_up", batch_id=at[0], position=at[1], begun=begun)
            payload = result.unanswered(*at, read_request(data).custom_id, *result.WORKER_LOST)
            return Result(*at, False, payload, result.NO_USAGE)
        try:
            return await attempt()
        finally:
            await self._end(*at)

    async def _end(self, batch_id: str, position: int) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._trials.end, batch_id, position)
        except Exception:
            # It then counts as begun and not ended: as often as makes it an error, it would have to fail each time.
            log.warning("trial.not_ended", batch_id=batch_id, position=position, exc_info=True)
