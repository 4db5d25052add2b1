"""The engine: one thread with one event loop that makes all calls of this process.

Every upstream has its own lane. A line that waits for its upstream, or for a retry, never delays lines for another
upstream.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice

import structlog
import uvloop

from app.adapters.upstream.loop_calls import call_soon
from app.domain import result
from app.domain.errors import BlobMissing, Unavailable
from app.domain.line import read_custom_id
from app.domain.result import Result
from app.services.execution import LineAttempt, OutOfTime, Retry, met_by
from app.services.ports import Caller, LaneState
from workers.batch_turns import BatchTurns, Weight, weigh_alike
from workers.batches_in_hand import BatchInHand
from workers.lane import Lane
from workers.lease import Lease
from workers.line_run import Line, LineRun
from workers.quarantine import Quarantine
from workers.runners import OneAtATime, Runners
from workers.vital_thread import vital_thread
from workers.writer import ResultWriter

log = structlog.get_logger()

# The loop starts and stops within milliseconds; a longer wait shows a fault.
_THREAD_WAIT_S = 10.0
# Pause of a line past its deadline; the end of its batch comes long before.
_OUT_OF_TIME_S = 60.0
# Interval between notes on paused lines, and most lines noted at once: a transaction of some hundredths of a second.
_NOTE_EVERY_S = 30.0
_MOST_NOTED = 1_000


class LineEngine:
    """Runs lines; a lane bounds how many of its lines run at once."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        writer: ResultWriter,
        lease: Lease,
        quarantine: Quarantine,
        *,
        read_line: Callable[[Line], bytes],
        weigh: Callable[[BatchInHand], Weight] = weigh_alike,
    ) -> None:
        self._lanes = list(lanes)
        self._writer = writer
        self._lease = lease
        self._quarantine = quarantine
        self._read_line = read_line
        self._weigh = weigh
        self._pauses: dict[Line, asyncio.TimerHandle] = {}
        self._is_draining = False
        self._ready = threading.Event()
        self._thread = vital_thread("engine", self._main)

    def start(self) -> None:
        """Start the thread, and return once the engine accepts lines."""
        self._thread.start()
        if not self._ready.wait(_THREAD_WAIT_S):
            raise RuntimeError("The engine's loop did not start.")

    def submit(self, lines: list[Line]) -> None:
        """Queue lines; thread-safe."""
        call_soon(self._loop, self._put, lines)

    def stop_batch(self, batch: BatchInHand) -> None:
        """Start no more lines of a batch; calls in flight go on. Thread-safe."""
        batch.is_stopped = True
        call_soon(self._loop, self._drop_waiting, lambda line: line.run.batch is batch)

    def abort_batch(self, batch: BatchInHand) -> None:
        """Cancel a batch's calls in flight; thread-safe."""
        call_soon(self._loop, self._abort, batch)

    def let_go(self) -> None:
        """Drop the waiting lines received in an earlier lease term; thread-safe."""
        call_soon(self._loop, self._drop_waiting, lambda line: not self._lease.covers(line.run.term))

    def share_out(self, place: int, states: Sequence[Mapping[str, LaneState]]) -> None:
        """Give every lane this worker's share of the upstream's limits; thread-safe.

        Args:
            place: index of this process among the workers, 0-based.
            states: the reported lane states of every worker, by upstream.
        """
        call_soon(self._loop, self._share_out, place, states)

    def drain(self, grace_s: float) -> None:
        """Start no more lines, and give lines back: waiting lines now, lines with a call in flight after `grace_s`."""
        call_soon(self._loop, self._drain, grace_s)

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._thread.is_alive():
            call_soon(self._loop, self._stopping.set)
            self._thread.join(_THREAD_WAIT_S)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._runners = {
            lane: Runners(self._attempt, self._drop, lane, turns=BatchTurns(self._weigh)) for lane in self._lanes
        }
        # Quarantined lines, which may crash the process, run one at a time beside all other lines.
        self._alone = Runners(
            self._attempt, self._drop, OneAtATime(), on_next=lambda line: line.lane.room.line_resumed()
        )
        self._loop.call_later(_NOTE_EVERY_S, self._note_paused)
        self._ready.set()
        await self._stopping.wait()
        await asyncio.gather(*(runners.stop() for runners in self._all_runners()))
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    def _all_runners(self) -> list[Runners]:
        return [*self._runners.values(), self._alone]

    async def _attempt(self, line: Line) -> None:
        batch, data, execution = line.run.batch, line.data, line.lane.execution
        outcome: Result | Retry | OutOfTime | None
        try:
            if data is None:
                if not self._may_send(line):
                    self._drop(line)
                    return
                data = await self._loop.run_in_executor(None, self._read_line, line)
            # Asked after each wait: reading, noting a trial and connecting take time.
            caller = Caller(line.tries, partial(self._may_send, line))
            again = LineAttempt(
                batch.id, batch.endpoint, batch.deadline, line.position, data, caller, line.met, batch.model
            )
            if line.run.is_alone:
                outcome = await self._quarantine.watch(line, data, partial(execution.attempt, again))
            else:
                outcome = await execution.attempt(again)
        except (BlobMissing, Unavailable):
            # `read_line` has noted the fault: the line runs again once the fault is mended.
            outcome = None
        except Exception:
            # A line gets a recorded outcome even after an unexpected exception; the log has the traceback.
            log.exception("line.broke", batch_id=batch.id, position=line.position)
            outcome = self._broken(line, data)
        if isinstance(outcome, Result):
            line.lane.answered += 1
            line.lane.room.line_done()
            self._writer.put(line.run, outcome)
        elif isinstance(outcome, Retry) and self._may_send(line):
            line.tries, line.met = outcome.tries, outcome.met
            self._pause(line, outcome.delay_s)
        elif isinstance(outcome, OutOfTime) and self._may_send(line):
            # Keep the line until the batch is expired: a task returning earlier would count for the chord, and the
            # chord's callback would find the batch still running.
            self._pause(line, _OUT_OF_TIME_S)
        else:
            self._drop(line)

    def _may_send(self, line: Line) -> bool:
        """Return whether this process may send a line's request now."""
        return not line.run.batch.is_stopped and not self._is_draining and self._lease.covers(line.run.term)

    def _broken(self, line: Line, data: bytes | None) -> Result | None:
        custom_id = read_custom_id(data) if data is not None else None
        if custom_id is None:
            # The line's bytes could not be read, or are damaged: upkeep sends the line again.
            return None
        code, message = "internal_error", "This request could not be executed: see the log of the worker."
        batch_id = line.run.batch.id
        payload = result.unanswered(batch_id, line.position, custom_id, code, message)
        return Result(batch_id, line.position, False, payload, result.NO_USAGE, line.run.batch.model)

    def _put(self, lines: Iterable[Line]) -> None:
        for line in lines:
            if self._may_send(line):
                self._wait(line)
            else:
                # The line was on its way as its batch was stopped, as the lease lapsed or as the drain began, and was
                # not among the waiting lines that were dropped then. It would wait for as long as its upstream is away.
                self._drop(line)

    def _wait(self, line: Line) -> None:
        if not line.run.is_alone:
            self._runners[line.lane].put(line)
            return
        # A line waiting for its turn in quarantine takes no call from the lane, and so must take no room.
        line.lane.room.line_done()
        self._alone.put(line)

    def _pause(self, line: Line, seconds: float) -> None:
        line.lane.room.line_done()
        line.lane.paused += 1
        self._pauses[line] = self._loop.call_later(seconds, self._resume, line)

    def _note_paused(self) -> None:
        """Note the failed calls of paused lines in the database, where the notes outlive this process."""
        self._loop.call_later(_NOTE_EVERY_S, self._note_paused)
        changed = (line for line in self._pauses if line.met is not None and line.noted_calls != line.tries.calls)
        for line in islice(changed, _MOST_NOTED):
            assert line.met is not None  # noqa: S101 - looked at above
            line.noted_calls = line.tries.calls
            self._writer.note(line.run.batch.id, line.position, met_by(line.tries, line.met))

    def _resume(self, line: Line) -> None:
        self._unpause(line)
        self._wait(line)

    def _unpause(self, line: Line) -> None:
        self._pauses.pop(line).cancel()
        line.lane.paused -= 1
        line.lane.room.line_resumed()

    def _drop(self, line: Line) -> None:
        line.lane.room.line_done()
        if self._is_draining and not line.run.batch.is_stopped:
            line.run.is_given_back = True
        if line.met is not None:
            self._writer.leave(line.run, line.position, met_by(line.tries, line.met))
        else:
            self._writer.put(line.run, None)

    def _drop_waiting(self, is_over: Callable[[Line], bool]) -> None:
        """Drop the lines without a call in flight for which `is_over` holds."""
        for line in [line for line in self._pauses if is_over(line)]:
            self._unpause(line)
            self._drop(line)
        for runners in self._all_runners():
            runners.drop_waiting(is_over)

    def _share_out(self, place: int, states: Sequence[Mapping[str, LaneState]]) -> None:
        for lane, runners in self._runners.items():
            # While the file of upstreams is being changed, some workers may not know this upstream.
            those = [number for number, lanes in enumerate(states) if lane.name in lanes or number == place]
            of_lane = [states[number].get(lane.name, LaneState(0)) for number in those]
            lane.set_share(those.index(place), of_lane)
            runners.look()
            lane.room.set_wide(is_wide=runners.has_hanging_batch())
            self._give_back(lane, runners, lane.lines_to_give_back(those.index(place), of_lane, len(runners.waiting())))
        if any(lane.has_no_part for lane in self._lanes):
            # Lines would wait here as long as the other workers live. Repair sends dropped lines to these workers.
            self._drop_waiting(lambda line: line.lane.has_no_part)

    def _give_back(self, lane: Lane, runners: Runners, most: int) -> None:
        """Give back tasks whose unfinished lines are all waiting, up to `most` lines, for workers with room."""
        waiting = Counter(line.run for line in runners.waiting() if not line.run.is_alone)
        given: set[LineRun] = set()
        for run, lines in waiting.items():
            # A task with a line in flight, or with a paused line, can't be given back as a whole.
            if lines == run.left and lines <= most:
                most -= lines
                run.is_given_back = True
                given.add(run)
        if given:
            log.info("tasks.given_back", upstream=lane.name, tasks=len(given))
            runners.drop_waiting(lambda line: line.run in given)

    def _abort(self, batch: BatchInHand | None) -> None:
        for runners in self._all_runners():
            runners.break_off(lambda line: batch is None or line.run.batch is batch)

    def _drain(self, grace_s: float) -> None:
        self._is_draining = True
        self._drop_waiting(lambda _: True)
        self._loop.call_later(grace_s, self._abort, None)
