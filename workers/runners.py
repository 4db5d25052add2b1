"""Coroutines that run lines; bounds limit the number of lines running at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from workers.batch_turns import BatchTurns
from workers.line_run import Line

# Interval between looks for room opening in a lane without an event.
_TICK_S = 0.02


class Bounds(Protocol):
    """Bounds on the number of lines running at once."""

    @property
    def slots(self) -> int:
        """Most lines running at once."""

    @property
    def allowed(self) -> int:
        """Number of lines allowed at present."""

    @property
    def waits_for_time(self) -> bool:
        """Whether another line may begin before a running line ends."""

    def begin(self, of_batch: int = 0) -> bool:
        """Return whether one more line may begin, and count the line if yes; `of_batch` lines of its batch run."""

    def end(self) -> None:
        """Count a line as ended."""

    def tick(self) -> None:
        """Adjust the bounds to the time passed."""


class OneAtATime:
    """Bounds of a single line at a time."""

    waits_for_time = False
    slots = allowed = 1

    def __init__(self) -> None:
        self._is_taken = False

    def begin(self, of_batch: int = 0) -> bool:
        """Return whether no line runs, and count a line if yes."""
        was_taken, self._is_taken = self._is_taken, True
        return not was_taken

    def end(self) -> None:
        """Count the line as ended."""
        self._is_taken = False

    def tick(self) -> None:
        """Do nothing: time does not change the bounds."""


class Runners:
    """Runs lines in turns of their batches, within the bounds; belongs to one event loop.

    Args:
        run: runs a line to its end.
        drop: called with a line that was not run, or not to its end.
        bounds: limit the lines running at once.
        on_next: called with a line that stops waiting.
        turns: the waiting lines, in turns of their batches.
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
        # The line of a runner, or None while idle; and the futures that wake idle runners.
        self._in_hand: dict[asyncio.Task[None], Line | None] = {}
        self._idle: list[asyncio.Future[Line]] = []
        self._tick_handle: asyncio.TimerHandle | None = None
        # The bounds at the last look for waiting lines that may begin.
        self._allowed = 0

    def put(self, line: Line) -> None:
        """Queue a line to run."""
        self._turns.put(line)
        self._start_some()

    def look(self) -> None:
        """Start the lines that the bounds allow by now."""
        self._start_some()

    def drop_waiting(self, is_over: Callable[[Line], bool]) -> None:
        """Drop the waiting lines for which `is_over` holds."""
        for line in self._turns.take_out(is_over):
            self._on_next(line)
            self._drop(line)

    def waiting(self) -> list[Line]:
        """Return the waiting lines."""
        return list(self._turns)

    def has_hanging_batch(self) -> bool:
        """Return whether lines wait in a batch whose calls do not end."""
        return self._turns.has_hanging_batch()

    def break_off(self, is_over: Callable[[Line], bool]) -> None:
        """Cancel and drop running lines for which `is_over` holds."""
        for runner, line in list(self._in_hand.items()):
            if line is not None and is_over(line):
                runner.cancel()

    async def stop(self) -> None:
        """Cancel the runners and forget the waiting lines."""
        self._turns.take_out(lambda _: True)
        runners = list(self._in_hand)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)

    def _start_some(self) -> None:
        self._allowed = self._bounds.allowed
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
                # The ended call may have raised the limit, and so made room for more lines.
                if self._bounds.allowed != self._allowed:
                    self._start_some()
                continue
            woken: asyncio.Future[Line] = self._loop.create_future()
            self._idle.append(woken)
            # No other runner may be left to start the waiting lines: start lines now, or schedule the next look.
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
