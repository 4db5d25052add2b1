"""The memory for large answers in one process, shared by all calls in flight."""

import asyncio
from collections.abc import Callable
from threading import Lock

from app.adapters.upstream.loop_calls import call_soon
from app.domain.limits import MIB

# An answer up to this size is not counted: nearly all answers are smaller, and counting slows down every call.
UNCOUNTED_BYTES = 256 * 1024
# Enough for several of the largest embeddings at once without a wait.
_BUDGET_BYTES = 128 * MIB


class AnswerMemory:
    """A budget of bytes. While the budget is used up, further answers are not read (backpressure).

    A single answer, the *leader*, may exceed the budget, so that at least one answer can always be read to the end. The
    most memory in use is the budget, a single largest answer, and the uncounted starts of the answers. Call `take` and
    `release` in a single event loop; `record_later` and `recorded` may be called from any thread.
    """

    def __init__(self, budget_bytes: int = _BUDGET_BYTES) -> None:
        self._budget_bytes = budget_bytes
        self._held: dict[object, int] = {}
        self._sum = 0
        # The paused answers, oldest first: the bytes held so far, and the callback that resumes reading.
        self._waiting: dict[object, tuple[int, Callable[[], None]]] = {}
        self._leader: object | None = None
        # The bytes of answers already read and not yet in the database.
        self._unrecorded = 0
        # The callers waiting for room to unpack an answer.
        self._turns: list[asyncio.Future[None]] = []
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self, holder: object, size: int, go_on: Callable[[], None]) -> bool:
        """Set the size of an answer so far; return False if reading must pause until `go_on` is called."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._sum += size - self._held.get(holder, 0)
        self._held[holder] = size
        if holder is self._leader or (not self._waiting and self._has_room()) or self._may_lead(holder):
            return True
        self._waiting[holder] = (size, go_on)
        return False

    def release(self, holder: object) -> None:
        """Stop counting an answer after it was read or given up."""
        self._sum -= self._held.pop(holder, 0)
        self._waiting.pop(holder, None)
        if holder is self._leader:
            self._leader = None
        self._let_go_on()

    async def wait_for_room(self) -> None:
        """Wait until the answers to be recorded fit into the budget; the caller bounds the time."""
        while self._unrecorded >= self._budget_bytes:
            self._loop = asyncio.get_running_loop()
            turn = self._loop.create_future()
            self._turns.append(turn)
            await turn

    def record_later(self, size: int) -> None:
        """Count an answer to be recorded later."""
        with self._lock:
            self._unrecorded += size

    def recorded(self, size: int) -> None:
        """Stop counting an answer after it was recorded or dropped."""
        with self._lock:
            self._unrecorded -= size
        if self._loop is not None:
            call_soon(self._loop, self._let_go_on)

    def _has_room(self) -> bool:
        return self._sum + self._unrecorded <= self._budget_bytes

    def _may_lead(self, holder: object) -> bool:
        # Recording goes on without this answer, and the answer would only add to the bytes waiting to be recorded.
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
