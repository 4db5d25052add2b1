"""Lines that wait in one lane, in turns of their batches: no batch goes beyond its share while another waits."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from workers.batches_in_hand import BatchInHand
from workers.line_run import Line

# This part of the slots is kept for batches that come: lines that hang hold their calls for as long as a call may take,
# and a batch that came then would wait for that. With fewer slots than this nothing is kept.
_KEPT_FREE = 8
# A batch hangs in which no call has ended for this long.
_HANGS_S = 3.0
# Weights change slowly, and batches come and go all the time.
_RECKON_EVERY_S = 0.1


class Weight(NamedTuple):
    """What a batch's share follows: its tenant's weight among tenants, and its own among its tenant's batches."""

    tenant_id: str
    of_tenant: float
    of_batch: float


def weigh_alike(batch: BatchInHand) -> Weight:
    """Give all batches the same."""
    return Weight("", 1.0, 1.0)


class _Turn:
    """One batch in the lane: its lines that wait, and how many of its calls are in flight."""

    __slots__ = ("batch", "in_flight", "lines", "moved_at", "part")

    def __init__(self, batch: BatchInHand) -> None:
        self.batch = batch
        self.lines: deque[Line] = deque()
        self.in_flight = 0
        # When a call ended last, or when the first began.
        self.moved_at = 0.0
        # Of the slots; all of them until it is reckoned.
        self.part = 1.0


class BatchTurns:
    """The lines that wait for a call, and whose turn it is.

    Args:
        weigh: what the share of a batch follows.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self, weigh: Callable[[BatchInHand], Weight] = weigh_alike, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._weigh = weigh
        self._now = now
        self._reckoned_at = float("-inf")
        # All batches with a line that waits or a call in flight; and those with lines that wait, in their turns.
        self._turns: dict[BatchInHand, _Turn] = {}
        self._order: dict[BatchInHand, _Turn] = {}
        self._waiting = 0
        self._in_flight = 0

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[Line]:
        return (line for turn in self._order.values() for line in turn.lines)

    def put(self, line: Line) -> None:
        """Have a line wait."""
        batch = line.run.batch
        turn = self._turns.get(batch)
        if turn is None:
            turn = self._turns[batch] = _Turn(batch)
        turn.lines.append(line)
        self._order.setdefault(batch, turn)
        self._waiting += 1

    def take(self, slots: int, allowed: int, begin: Callable[[int], bool]) -> Line | None:
        """Return the line whose turn it is, and count its call; None where none may begin.

        Args:
            slots: how many calls may be in flight at most.
            allowed: how many of them the upstream has room for now, which is what is shared.
            begin: counts one more call where there is room for it, given how many its batch has in flight.
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
        if not turn.lines or len(self._order) > 1:
            del self._order[turn.batch]
            if turn.lines:
                self._order[turn.batch] = turn
        return line

    def end(self, line: Line) -> None:
        """Count a call that ended."""
        turn = self._turns[line.run.batch]
        turn.in_flight -= 1
        turn.moved_at = self._now()
        self._in_flight -= 1
        self._forget_if_over(turn)

    def has_hanging_batch(self) -> bool:
        """Return whether lines wait of a batch in which no call ends."""
        since = self._now() - _HANGS_S
        return any(turn.in_flight and turn.moved_at <= since for turn in self._order.values())

    def take_out(self, is_over: Callable[[Line], bool]) -> list[Line]:
        """Return the lines that wait and are over; they wait no more."""
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
        if len(self._turns) > 1:
            self._reckon()
        free, kept = slots - self._in_flight, slots // _KEPT_FREE
        shared = min(allowed, slots - kept)
        # A batch takes half of the slots that are kept at most, so that the next batch has some as well.
        most = slots if free > kept else max(free // 2, 1)
        beyond = None
        for turn in self._order.values():
            if turn.in_flight >= most:
                continue
            # A batch with a line that waits for nothing but its turn goes before those that have their share.
            if len(self._order) == 1 or turn.in_flight < shared * turn.part:
                return turn
            beyond = beyond or turn
        return beyond

    def _reckon(self) -> None:
        """Reckon each batch's part of the slots."""
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
