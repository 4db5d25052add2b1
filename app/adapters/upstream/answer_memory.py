"""The memory that large answers take in one process, shared by all calls in flight."""

import asyncio
from collections.abc import Callable
from threading import Lock

from app.domain.limits import MIB

# An answer up to this size is not counted: nearly all are smaller, and counting costs each call something.
UNCOUNTED_BYTES = 256 * 1024
# Several of the largest embeddings at once, without waiting for each other.
_BUDGET_BYTES = 128 * MIB


class AnswerMemory:
    """A budget of bytes. An answer that finds none left stops reading until others are done (backpressure).

    One answer, the *leader*, may pass the budget, so that one answer at least can always be read to its end. The most
    that all take is the budget, one largest answer, and the uncounted start of each. `take` and `release` belong to
    one event loop, `record_later` and `recorded` may come from any thread.
    """

    def __init__(self, budget_bytes: int = _BUDGET_BYTES) -> None:
        self._budget_bytes = budget_bytes
        self._held: dict[object, int] = {}
        self._sum = 0
        # Those that stopped reading, by age, with the bytes they hold by now and what lets them go on.
        self._waiting: dict[object, tuple[int, Callable[[], None]]] = {}
        self._leader: object | None = None
        # Answers that are read and not yet in the database.
        self._unrecorded = 0
        # Those that wait for room to unpack an answer.
        self._turns: list[asyncio.Future[None]] = []
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self, holder: object, size: int, go_on: Callable[[], None]) -> bool:
        """Count an answer with the size it has by now; where it is to stop reading, False now and `go_on` later."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._sum += size - self._held.get(holder, 0)
        self._held[holder] = size
        if holder is self._leader or (not self._waiting and self._has_room()) or self._may_lead(holder):
            return True
        self._waiting[holder] = (size, go_on)
        return False

    def release(self, holder: object) -> None:
        """Count an answer as read or given up."""
        self._sum -= self._held.pop(holder, 0)
        self._waiting.pop(holder, None)
        if holder is self._leader:
            self._leader = None
        self._let_go_on()

    async def wait_for_room(self) -> None:
        """Wait until what is to be recorded fits into the budget; the caller bounds the time."""
        while self._unrecorded >= self._budget_bytes:
            self._loop = asyncio.get_running_loop()
            turn = self._loop.create_future()
            self._turns.append(turn)
            await turn

    def record_later(self, size: int) -> None:
        """Count an answer that is to be recorded."""
        with self._lock:
            self._unrecorded += size

    def recorded(self, size: int) -> None:
        """Count an answer as recorded, or as dropped."""
        with self._lock:
            self._unrecorded -= size
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._let_go_on)

    def _has_room(self) -> bool:
        return self._sum + self._unrecorded <= self._budget_bytes

    def _may_lead(self, holder: object) -> bool:
        # What waits to be recorded gets done without this answer, which would only join it.
        if self._leader is not None or self._unrecorded >= self._budget_bytes:
            return False
        self._leader = holder
        return True

    def _let_go_on(self) -> None:
        turns, self._turns = self._turns, []
        for turn in turns:
            if not turn.done():
                turn.set_result(None)
        while self._waiting:
            holder = next(iter(self._waiting))
            if not self._has_room() and not self._may_lead(holder):
                return
            _, go_on = self._waiting.pop(holder)
            go_on()
