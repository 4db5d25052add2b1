"""Coroutines that run lines, each one at a time, as many of them as some bounds allow."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from workers.line_run import Line

# How often it is looked whether a lane has room again that nothing else tells of.
_TICK_S = 0.02


class Bounds(Protocol):
    """How many lines may run at once."""

    @property
    def waits_for_time(self) -> bool:
        """Whether more may begin though none ends first."""

    def begin(self) -> bool:
        """Return whether one more may begin, and count it if so."""

    def end(self) -> None:
        """Count one that ended."""

    def tick(self) -> None:
        """Look at the time."""


class OneAtATime:
    """Bounds of one."""

    waits_for_time = False

    def __init__(self) -> None:
        self._is_taken = False

    def begin(self) -> bool:
        """Return whether none runs, and count one if so."""
        was_taken, self._is_taken = self._is_taken, True
        return not was_taken

    def end(self) -> None:
        """Count it as ended."""
        self._is_taken = False

    def tick(self) -> None:
        """Do nothing: time changes nothing."""


class Runners:
    """Runs lines in the order in which they come, as many at once as the bounds allow; belongs to one event loop.

    Args:
        run: runs a line to its end.
        drop: is told of a line that was not run, or not to its end.
        bounds: how many run at once.
        on_next: is told of each line that waits no more.
    """

    def __init__(
        self,
        run: Callable[[Line], Awaitable[None]],
        drop: Callable[[Line], None],
        bounds: Bounds,
        on_next: Callable[[Line], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._drop = drop
        self._bounds = bounds
        self._on_next = on_next
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Line] = deque()
        # What each runner has in hand; and those that have nothing to do, by what wakes them.
        self._in_hand: dict[asyncio.Task[None], Line | None] = {}
        self._idle: list[asyncio.Future[Line]] = []
        self._tick_handle: asyncio.TimerHandle | None = None

    def put(self, line: Line) -> None:
        """Have a line run."""
        self._waiting.append(line)
        self._start_some()

    def look(self) -> None:
        """Start what the bounds allow by now."""
        self._start_some()

    def drop_waiting(self, is_over: Callable[[Line], bool]) -> None:
        """Drop the lines that wait and are over."""
        lines, self._waiting = self._waiting, deque()
        for line in lines:
            if is_over(line):
                self._on_next(line)
                self._drop(line)
            else:
                self._waiting.append(line)

    def break_off(self, is_over: Callable[[Line], bool]) -> None:
        """Break off the calls of these lines; each is dropped."""
        for runner, line in list(self._in_hand.items()):
            if line is not None and is_over(line):
                runner.cancel()

    async def stop(self) -> None:
        """Break off everything."""
        self._waiting.clear()
        runners = list(self._in_hand)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)

    def _start_some(self) -> None:
        while self._waiting and self._bounds.begin():
            line = self._next()
            if self._idle:
                self._idle.pop().set_result(line)
            else:
                runner = self._loop.create_task(self._run_lines(line))
                self._in_hand[runner] = line
                runner.add_done_callback(self._on_end)
        if self._waiting and self._tick_handle is None and self._bounds.waits_for_time:
            self._tick_handle = self._loop.call_later(_TICK_S, self._tick)

    def _next(self) -> Line:
        line = self._waiting.popleft()
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
            if self._waiting and self._bounds.begin():
                line = self._next()
                # What has just been learned may leave room for more.
                if self._waiting:
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
            self._start_some()

    def _tick(self) -> None:
        self._tick_handle = None
        self._bounds.tick()
        self._start_some()
