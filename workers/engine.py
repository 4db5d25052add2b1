"""The engine: one thread with one event loop that makes all calls of this process.

A fixed number of runners takes lines from one queue; a line that waits to be tried again holds no runner.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog
import uvloop

from app.domain import result
from app.domain.line import read_request
from app.domain.result import Result
from app.services.execution import ExecutionService, OutOfTime, Retry
from workers.batches_in_hand import BatchInHand
from workers.lease import Lease
from workers.line_run import Line
from workers.quarantine import Quarantine
from workers.taken import Taken
from workers.vital_thread import vital_thread
from workers.writer import ResultWriter

log = structlog.get_logger()

# Starting and stopping the loop take milliseconds; past this something is broken.
_THREAD_WAIT_S = 10.0
# A line without time left looks again after this; the end of its batch comes long before.
_OUT_OF_TIME_S = 60.0


class LineEngine:
    """Runs lines, up to `concurrency` calls at once."""

    def __init__(
        self,
        execution: ExecutionService,
        writer: ResultWriter,
        taken: Taken,
        lease: Lease,
        quarantine: Quarantine,
        *,
        concurrency: int,
        read_line: Callable[[Line], bytes],
        close_upstream: Callable[[], Awaitable[None]],
    ) -> None:
        self._execution = execution
        self._writer = writer
        self._taken = taken
        self._lease = lease
        self._quarantine = quarantine
        self._concurrency = concurrency
        self._read_line = read_line
        self._close_upstream = close_upstream
        self._runners: dict[asyncio.Task[None], Line | None] = {}
        self._pauses: dict[Line, asyncio.TimerHandle] = {}
        self._is_draining = False
        self._ready = threading.Event()
        self._thread = vital_thread("engine", self._main)
        self.answered = 0

    @property
    def lines_paused(self) -> int:
        """How many lines wait to be tried again."""
        return len(self._pauses)

    def start(self) -> None:
        """Start the thread; returns once it takes lines."""
        self._thread.start()
        if not self._ready.wait(_THREAD_WAIT_S):
            raise RuntimeError("The engine's loop did not start.")

    def submit(self, lines: list[Line]) -> None:
        """Queue lines, from any thread."""
        self._loop.call_soon_threadsafe(self._put, lines)

    def stop_batch(self, batch: BatchInHand) -> None:
        """Start nothing more of a batch, from any thread; calls in flight go on."""
        batch.is_stopped = True
        self._loop.call_soon_threadsafe(self._drop_paused, lambda line: line.run.batch is batch)

    def abort_batch(self, batch: BatchInHand) -> None:
        """Break off the calls of a batch that are in flight, from any thread."""
        self._loop.call_soon_threadsafe(self._abort, batch)

    def let_go(self) -> None:
        """Drop the lines that wait and were taken up in an earlier term of the lease, from any thread."""
        self._loop.call_soon_threadsafe(self._drop_lapsed)

    def drain(self, grace_s: float) -> None:
        """Start nothing more, and give lines back: waiting ones now, calls in flight after `grace_s`."""
        self._loop.call_soon_threadsafe(self._drain, grace_s)

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_THREAD_WAIT_S)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._waiting: asyncio.Queue[Line] = asyncio.Queue()
        # Lines that may end the process go one at a time, beside the others.
        self._waiting_alone: asyncio.Queue[Line] = asyncio.Queue()
        for _ in range(self._concurrency):
            self._add_runner(self._waiting)
        self._add_runner(self._waiting_alone)
        self._ready.set()
        await self._stopping.wait()
        runners = list(self._runners)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        await self._close_upstream()

    def _add_runner(self, waiting: "asyncio.Queue[Line]") -> None:
        runner = self._loop.create_task(self._run(waiting))
        self._runners[runner] = None
        runner.add_done_callback(partial(self._on_runner_end, waiting))

    def _on_runner_end(self, waiting: "asyncio.Queue[Line]", runner: "asyncio.Task[None]") -> None:
        line = self._runners.pop(runner)
        if line is not None:
            self._drop(line)
        if not self._stopping.is_set() and not self._is_draining:
            self._add_runner(waiting)

    async def _run(self, waiting: "asyncio.Queue[Line]") -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - a coroutine that runs is always some task's
        while True:
            line = await waiting.get()
            if line.run.is_alone:
                self._taken.line_resumed()
            self._runners[me] = line
            await self._attempt(line)
            self._runners[me] = None

    async def _attempt(self, line: Line) -> None:
        batch = line.run.batch
        if batch.is_stopped or self._is_draining or not self._lease.covers(line.run.term):
            self._drop(line)
            return
        data = line.data
        outcome: Result | Retry | OutOfTime | None
        try:
            if data is None:
                data = await self._loop.run_in_executor(None, self._read_line, line)
            attempt = partial(
                self._execution.attempt, batch.id, batch.endpoint, batch.deadline, line.position, data, line.tries
            )
            outcome = await (self._quarantine.watch(line, data, attempt) if line.run.is_alone else attempt())
        except Exception:
            # Whatever happens to a line is a recorded outcome; what it was is for the log.
            log.exception("line.broke", batch_id=batch.id, position=line.position)
            outcome = self._broken(line, data)
        if isinstance(outcome, Result):
            self.answered += 1
            self._taken.line_done()
            self._writer.put(line.run, outcome)
        elif isinstance(outcome, Retry) and not batch.is_stopped and not self._is_draining:
            line.tries = outcome.tries
            self._pause(line, outcome.delay_s)
        elif isinstance(outcome, OutOfTime) and not batch.is_stopped and not self._is_draining:
            # Kept until the batch is expired: a task that returned before that would count for a chord whose callback
            # finds a batch that still runs.
            self._pause(line, _OUT_OF_TIME_S)
        else:
            self._drop(line)

    def _broken(self, line: Line, data: bytes | None) -> Result | None:
        if data is None:
            # The input could not be read just now: upkeep has the line run again.
            return None
        code, message = "internal_error", "This request could not be executed: see the log of the worker."
        batch_id, custom_id = line.run.batch.id, read_request(data).custom_id
        payload = result.unanswered(batch_id, line.position, custom_id, code, message)
        return Result(batch_id, line.position, False, payload, result.NO_USAGE)

    def _put(self, lines: Iterable[Line]) -> None:
        for line in lines:
            if self._is_draining:
                # Runners whose calls were broken off are not replaced: nobody might come for it.
                self._drop(line)
            else:
                self._wait(line)

    def _wait(self, line: Line) -> None:
        if not line.run.is_alone:
            self._waiting.put_nowait(line)
            return
        # One that waits for its turn alone takes no call from the others, and so no room from theirs.
        self._taken.line_done()
        self._waiting_alone.put_nowait(line)

    def _all_from(self, waiting: "asyncio.Queue[Line]") -> list[Line]:
        lines = [waiting.get_nowait() for _ in range(waiting.qsize())]
        for line in lines:
            if line.run.is_alone:
                self._taken.line_resumed()
        return lines

    def _pause(self, line: Line, seconds: float) -> None:
        self._taken.line_done()
        self._pauses[line] = self._loop.call_later(seconds, self._resume, line)

    def _resume(self, line: Line) -> None:
        del self._pauses[line]
        self._taken.line_resumed()
        self._wait(line)

    def _drop(self, line: Line) -> None:
        self._taken.line_done()
        if self._is_draining and not line.run.batch.is_stopped:
            line.run.is_given_back = True
        self._writer.put(line.run, None)

    def _drop_lapsed(self) -> None:
        self._drop_paused(lambda line: not self._lease.covers(line.run.term))
        for waiting in (self._waiting, self._waiting_alone):
            for line in self._all_from(waiting):
                if self._lease.covers(line.run.term):
                    self._wait(line)
                else:
                    self._drop(line)

    def _drop_paused(self, is_over: Callable[[Line], bool]) -> None:
        for line, pause in list(self._pauses.items()):
            if is_over(line):
                pause.cancel()
                del self._pauses[line]
                self._taken.line_resumed()
                self._drop(line)

    def _abort(self, batch: BatchInHand | None) -> None:
        for runner, line in list(self._runners.items()):
            if line is not None and (batch is None or line.run.batch is batch):
                runner.cancel()

    def _drain(self, grace_s: float) -> None:
        self._is_draining = True
        self._drop_paused(lambda _: True)
        for waiting in (self._waiting, self._waiting_alone):
            for line in self._all_from(waiting):
                self._drop(line)
        self._loop.call_later(grace_s, self._abort, None)
