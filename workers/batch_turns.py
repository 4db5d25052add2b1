"""The lines waiting in a lane, in turns of their batches: no batch exceeds its share while another batch waits."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from workers.batches_in_hand import BatchInHand
from workers.line_run import Line

# Of this many slots, a slot is reserved for new batches: hanging lines hold their calls until the call time-out, and a
# new batch would have to wait as long. With fewer slots, nothing is reserved.
_KEPT_FREE = 8
# Lines that a batch begins in a turn, and may have in flight with a share below one call, but at most an eighth of the
# slots. The few lines of a small batch begin together, and do not wait for one another's answers among many batches.
_LINES_A_TURN = 5
# A batch hangs if its calls have not ended for this long.
_HANGS_S = 3.0
# Interval between computations of the shares: weights change slowly, but batches come and go constantly.
_RECKON_EVERY_S = 0.1


class Weight(NamedTuple):
    """The weights behind a batch's share: of the tenant among tenants, and of the batch among the tenant's batches."""

    tenant_id: str
    of_tenant: float
    of_batch: float


def weigh_alike(batch: BatchInHand) -> Weight:
    """Give every batch an equal weight."""
    return Weight("", 1.0, 1.0)


class _Turn:
    """A batch in the lane: the waiting lines, and the number of calls in flight."""

    __slots__ = ("batch", "in_flight", "lines", "moved_at", "part", "taken")

    def __init__(self, batch: BatchInHand) -> None:
        self.batch = batch
        self.lines: deque[Line] = deque()
        self.in_flight = 0
        # Lines begun in this turn.
        self.taken = 0
        # When the last call ended or, before any end, the first call began.
        self.moved_at = 0.0
        # The batch's share as a fraction of the slots; 1 until computed.
        self.part = 1.0


class BatchTurns:
    """The lines waiting for a call, and the batch whose turn is next.

    Args:
        weigh: returns the weights behind a batch's share.
        now: seconds of a monotonic clock.
    """

    def __init__(
        self, weigh: Callable[[BatchInHand], Weight] = weigh_alike, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._weigh = weigh
        self._now = now
        self._reckoned_at = float("-inf")
        # Batches with a waiting line or a call in flight; and batches with waiting lines, the next turn first.
        self._turns: dict[BatchInHand, _Turn] = {}
        self._order: dict[BatchInHand, _Turn] = {}
        self._waiting = 0
        self._in_flight = 0

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[Line]:
        return (line for turn in self._order.values() for line in turn.lines)

    def put(self, line: Line) -> None:
        """Queue a line."""
        batch = line.run.batch
        turn = self._turns.get(batch)
        if turn is None:
            turn = self._turns[batch] = _Turn(batch)
        turn.lines.append(line)
        self._order.setdefault(batch, turn)
        self._waiting += 1

    def take(self, slots: int, allowed: int, begin: Callable[[int], bool]) -> Line | None:
        """Return the line whose turn is next, and count its call; None if no line may begin.

        Args:
            slots: most calls in flight.
            allowed: calls in flight that the upstream has room for now; batches get shares of this number.
            begin: given the batch's number of calls in flight, counts one more call if there is room for the call.
        """
        turn = self._next(slots, allowed)
        if turn is None or not begin(turn.in_flight):
            return None
        if not turn.in_flight:
            turn.moved_at = self._now()
        turn.in_flight += 1
        self._in_flight += 1
        self._waiting -= 1
        line = turn.lines.popleft()
        turn.taken += 1
        if not turn.lines or (len(self._order) > 1 and turn.taken >= _lines_a_turn(slots)):
            turn.taken = 0
            del self._order[turn.batch]
            if turn.lines:
                self._order[turn.batch] = turn
        return line

    def end(self, line: Line) -> None:
        """Count a call as ended."""
        turn = self._turns[line.run.batch]
        turn.in_flight -= 1
        turn.moved_at = self._now()
        self._in_flight -= 1
        self._forget_if_over(turn)

    def has_hanging_batch(self) -> bool:
        """Return whether lines wait in a batch whose calls do not end."""
        since = self._now() - _HANGS_S
        return any(turn.in_flight and turn.moved_at <= since for turn in self._order.values())

    def take_out(self, is_over: Callable[[Line], bool]) -> list[Line]:
        """Remove and return the waiting lines for which `is_over` holds."""
        over: list[Line] = []
        for turn in list(self._order.values()):
            kept: deque[Line] = deque()
            for line in turn.lines:
                (over if is_over(line) else kept).append(line)
            self._waiting -= len(turn.lines) - len(kept)
            turn.lines = kept
            if not kept:
                del self._order[turn.batch]
                self._forget_if_over(turn)
        return over

    def _forget_if_over(self, turn: _Turn) -> None:
        if not turn.in_flight and not turn.lines:
            del self._turns[turn.batch]

    def _next(self, slots: int, allowed: int) -> _Turn | None:
        free, kept = slots - self._in_flight, slots // _KEPT_FREE
        # Once only reserved slots are free, a batch may hold at most half as many calls, and leaves slots to the next.
        most = slots if free > kept else max(free // 2, 1)
        if len(self._turns) == 1:
            (turn,) = self._turns.values()
            return turn if turn.lines and turn.in_flight < most else None
        self._reckon()
        shared = min(allowed, slots - kept)
        beyond = None
        for turn in self._order.values():
            if turn.in_flight >= most:
                continue
            # A batch below its share, or a batch waiting alone, goes before batches that have their share.
            share = shared * turn.part
            if len(self._order) == 1 or turn.in_flight < (share if share >= 1 else _lines_a_turn(slots)):
                return turn
            beyond = beyond or turn
        return beyond

    def _reckon(self) -> None:
        """Compute every batch's share of the slots."""
        now = self._now()
        if now - self._reckoned_at < _RECKON_EVERY_S:
            return
        self._reckoned_at = now
        weights = {turn: self._weigh(turn.batch) for turn in self._turns.values()}
        tenants = {weight.tenant_id: weight.of_tenant for weight in weights.values()}
        of_all, of_batches = sum(tenants.values()), dict.fromkeys(tenants, 0.0)
        for weight in weights.values():
            of_batches[weight.tenant_id] += weight.of_batch
        for turn, weight in weights.items():
            turn.part = weight.of_tenant / of_all * weight.of_batch / of_batches[weight.tenant_id]


def _lines_a_turn(slots: int) -> int:
    return max(min(_LINES_A_TURN, slots // 8), 1)
