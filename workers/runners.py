"""Coroutines that run lines, each one at a time, as many of them as some bounds allow."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from workers.batch_turns import BatchTurns
from workers.line_run import Line

# How often it is looked whether a lane has room again that nothing else tells of.
_TICK_S = 0.02


class Bounds(Protocol):
    """How many lines may run at once."""

    @property
    def slots(self) -> int:
        """How many at most."""

    @property
    def allowed(self) -> int:
        """How many as things are now."""

    @property
    def waits_for_time(self) -> bool:
        """Whether more may begin though none ends first."""

    def begin(self, of_batch: int = 0) -> bool:
        """Return whether one more may begin, and count it if so; so many of its batch run."""

    def end(self) -> None:
        """Count one that ended."""

    def tick(self) -> None:
        """Look at the time."""


class OneAtATime:
    """Bounds of one."""

    waits_for_time = False
    slots = allowed = 1

    def __init__(self) -> None:
        self._is_taken = False

    def begin(self, of_batch: int = 0) -> bool:
        """Return whether none runs, and count one if so."""
        was_taken, self._is_taken = self._is_taken, True
        return not was_taken

    def end(self) -> None:
        """Count it as ended."""
        self._is_taken = False

    def tick(self) -> None:
        """Do nothing: time changes nothing."""


class Runners:
    """Runs lines in turns of their batches, as many at once as the bounds allow; belongs to one event loop.

    Args:
        run: runs a line to its end.
        drop: is told of a line that was not run, or not to its end.
        bounds: how many run at once.
        on_next: is told of each line that waits no more.
        turns: whose turn it is.
    """

    def __init__(
        self,
        run: Callable[[Line], Awaitable[None]],
        drop: Callable[[Line], None],
        bounds: Bounds,
        on_next: Callable[[Line], None] = lambda _: None,
        turns: BatchTurns | None = None,
    ) -> None:
        self._run = run
        self._drop = drop
        self._bounds = bounds
        self._on_next = on_next
        self._loop = asyncio.get_running_loop()
        self._turns = turns if turns is not None else BatchTurns()
        # What each runner has in hand; and those that have nothing to do, by what wakes them.
        self._in_hand: dict[asyncio.Task[None], Line | None] = {}
        self._idle: list[asyncio.Future[Line]] = []
        self._tick_handle: asyncio.TimerHandle | None = None

    def put(self, line: Line) -> None:
        """Have a line run."""
        self._turns.put(line)
        self._start_some()

    def look(self) -> None:
        """Start what the bounds allow by now."""
        self._start_some()

    def drop_waiting(self, is_over: Callable[[Line], bool]) -> None:
        """Drop the lines that wait and are over."""
        for line in self._turns.take_out(is_over):
            self._on_next(line)
            self._drop(line)

    def waiting(self) -> list[Line]:
        """Return the lines that wait."""
        return list(self._turns)

    def has_hanging_batch(self) -> bool:
        """Return whether lines wait of a batch in which no call ends."""
        return self._turns.has_hanging_batch()

    def break_off(self, is_over: Callable[[Line], bool]) -> None:
        """Break off the calls of these lines; each is dropped."""
        for runner, line in list(self._in_hand.items()):
            if line is not None and is_over(line):
                runner.cancel()

    async def stop(self) -> None:
        """Break off everything."""
        self._turns.take_out(lambda _: True)
        runners = list(self._in_hand)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)

    def _start_some(self) -> None:
        while (line := self._next()) is not None:
            if self._idle:
                self._idle.pop().set_result(line)
            else:
                runner = self._loop.create_task(self._run_lines(line))
                self._in_hand[runner] = line
                runner.add_done_callback(self._on_end)
        if self._turns and self._tick_handle is None and self._bounds.waits_for_time:
            self._tick_handle = self._loop.call_later(_TICK_S, self._tick)

    def _next(self) -> Line | None:
        if not self._turns:
            return None
        bounds = self._bounds
        line = self._turns.take(bounds.slots, bounds.allowed, bounds.begin)
        if line is not None:
            self._on_next(line)
        return line

    async def _run_lines(self, line: Line) -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - a coroutine that runs is always some task's
        while True:
            self._in_hand[me] = line
            await self._run(line)
            self._in_hand[me] = None
            self._bounds.end()
            self._turns.end(line)
            following = self._next()
            if following is not None:
                line = following
                # What has just been learned may leave room for more.
                if self._turns:
                    self._start_some()
                continue
            woken: asyncio.Future[Line] = self._loop.create_future()
            self._idle.append(woken)
            # Nobody else may be left to look when what waits may begin.
            self._start_some()
            line = await woken

    def _on_end(self, runner: "asyncio.Task[None]") -> None:
        line = self._in_hand.pop(runner)
        if line is not None:
            self._drop(line)
            self._bounds.end()
            self._turns.end(line)
            self._start_some()

    def _tick(self) -> None:
        self._tick_handle = None
        self._bounds.tick()
        self._start_some()
