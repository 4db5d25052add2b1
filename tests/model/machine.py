"""The machine: what callers, processes, the network and death may do, in any order."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.domain.lifecycle import Status
from app.services.ports import REPORT_LIFETIME_S
from tests.model.broker import ControlMessage
from tests.model.healing import heal, sweep_all
from tests.model.steps import Fault, How
from tests.model.workers import Run, Worker
from tests.model.world import TENANT, TICKS, WINDOW_S, Stores, World

MAX_BATCHES = 3
MAX_STALLED = 4
# Longer than a task has to be missing for repair to send it again.
REPAIR_EVERY_S = 3.0
KINDS = ("finalize", "validate", "close", "refill")
NAMES = ("worker-1", "worker-2")
# As long as a look, a report's life, each lease, and a drain.
SPANS = (0.5, 3.0, 6.0, 11.0, 31.0, 61.0)


def faults(last: int, ways: Any = How) -> st.SearchStrategy[Fault | None]:
    """Return faults at the steps up to `last`, or none: else nothing gets far enough for the next one to matter."""
    return st.one_of(st.none(), st.builds(Fault, st.integers(0, last), st.sampled_from(ways)))


of_create = faults(4)
of_control = faults(12)
of_tick = faults(7)
of_record = faults(0)
# What ends much that goes on is done once in a while.
seldom = st.sampled_from([False, False, False, True])


class BatchMachine(RuleBasedStateMachine):
    """Drives batches through the real services; the ledger looks at each step that writes."""

    def open_stores(self) -> Stores:
        raise NotImplementedError

    @initialize(
        lines_per_task=st.sampled_from([None, 1, 2, 3]),
        running=st.sampled_from([2, 1, 0]),
        last_faults=st.lists(of_control, max_size=4),
    )
    def begin(self, lines_per_task: int | None, running: int, last_faults: list[Fault | None]) -> None:
        self.world = World(self.open_stores(), lines_per_task)
        self.workers = {name: Worker(name) for name in NAMES}
        # What the first finalizers meet with while everything heals.
        self.last_faults = last_faults
        self.files: list[str] = []
        self.requests: dict[str, str] = {}
        for _ in range(running):
            self.create(lines=4, model="small", fault=None)
        self.control_takes_all("validate", None)

    # What callers do.

    @precondition(lambda self: len(self.requests) < MAX_BATCHES)
    @rule(lines=st.integers(1, 5), model=st.sampled_from(["small", "small", "small", "unknown"]), fault=of_create)
    def create(self, lines: int, model: str, fault: Fault | None) -> None:
        file = self.world.upload(lines, model=model)
        key = f"key-{len(self.requests)}"
        self.files.append(file.id)
        self.requests[key] = file.id
        self.world.create(file.id, key, fault)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), fault=of_create)
    def create_again(self, data: Any, fault: Fault | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.requests)))
        self.world.create(self.requests[key], key, fault)

    @precondition(lambda self: self.world.ledger.seen)
    @rule(data=st.data(), is_meant=seldom, fault=faults(3))
    def cancel(self, data: Any, is_meant: bool, fault: Fault | None) -> None:
        if is_meant:
            self.world.cancel(data.draw(st.sampled_from(list(self.world.ledger.seen))), fault)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete_input(self, data: Any) -> None:
        file_id = data.draw(st.sampled_from(self.files))
        self.world.stores.files.mark_deleted(TENANT, file_id, self.world.clock.now())

    # What time and beat do.

    @rule(seconds=st.sampled_from(SPANS))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(is_meant=seldom)
    def wait_for_the_deadline(self, is_meant: bool) -> None:
        if is_meant:
            self.world.clock.advance(WINDOW_S)

    @rule(name=st.sampled_from(TICKS), fault=of_tick)
    def tick(self, name: str, fault: Fault | None) -> None:
        self.world.tick(name, fault)

    @precondition(lambda self: self.world.ledger.of(Status.IN_PROGRESS))
    @rule()
    def look_twice(self) -> None:
        for _ in range(2):
            self.world.tick("repair")
            self.world.clock.advance(REPAIR_EVERY_S)
        self.world.tick("repair")

    # What becomes of messages.

    @precondition(lambda self: self.world.broker.control)
    @rule(data=st.data(), is_kept=st.booleans(), fault=of_control)
    def control_takes(self, data: Any, is_kept: bool, fault: Fault | None) -> None:
        control = self.world.broker.control
        message = control[data.draw(st.integers(0, len(control) - 1))]
        if not is_kept:
            control.remove(message)
        self.world.handle(message, fault)

    @precondition(lambda self: self.world.broker.control)
    @rule(kind=st.sampled_from(KINDS), fault=of_control)
    def control_takes_all(self, kind: str, fault: Fault | None) -> None:
        """The fault befalls the first message of the kind."""
        while self.world.broker.control:
            message = self.world.broker.control.pop(0)
            is_meant = message.kind == kind
            self.world.handle(message, fault if is_meant else None)
            fault = None if is_meant else fault

    @precondition(lambda self: self.world.broker.lines)
    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS), fault=of_control)
    def all_take_all(self, name: str, kind: str, fault: Fault | None) -> None:
        self.worker_does_all(name, None)
        self.control_takes_all(kind, fault)

    @precondition(lambda self: self.world.broker.control or self.world.broker.lines)
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        messages: list[Any] = self.world.broker.control or self.world.broker.lines
        messages.pop(data.draw(st.integers(0, len(messages) - 1)))

    @rule(is_meant=seldom)
    def empty_broker(self, is_meant: bool) -> None:
        if is_meant:
            self.world.broker.empty()
            self.world.roster.empty()

    # What workers do.

    @precondition(lambda self: self.world.broker.lines)
    @rule(data=st.data(), name=st.sampled_from(NAMES), is_kept=st.booleans())
    def worker_takes(self, data: Any, name: str, is_kept: bool) -> None:
        world, lines = self.world, self.world.broker.lines
        message = lines.pop(data.draw(st.integers(0, len(lines) - 1)))
        if is_kept:
            # A copy that Celery delivers again says so.
            lines.append(world.broker.redelivered(message))
        world.take(self.workers[name], message)

    @precondition(lambda self: self.world.broker.lines)
    @rule(name=st.sampled_from(NAMES), fault=of_record)
    def worker_does_all(self, name: str, fault: Fault | None) -> None:
        for message in list(self.world.broker.lines):
            self.world.broker.lines.remove(message)
            worker = self.workers[name]
            run = self.world.take(worker, message)
            if run is not None:
                self.end_task(worker, run, fault, is_good=True)
                fault = None

    @precondition(lambda self: self.runs(is_todo=True))
    @rule(data=st.data(), is_good=st.booleans())
    def worker_calls(self, data: Any, is_good: bool) -> None:
        worker, run = data.draw(st.sampled_from(self.runs(is_todo=True)))
        self.world.call(worker, run, is_good=is_good)

    @precondition(lambda self: self.runs())
    @rule(data=st.data(), is_whole=st.booleans(), is_good=st.booleans(), fault=of_record)
    def worker_records(self, data: Any, is_whole: bool, is_good: bool, fault: Fault | None) -> None:
        worker, run = data.draw(st.sampled_from(self.runs()))
        if is_whole:
            self.end_task(worker, run, fault, is_good=is_good)
        else:
            self.record(worker, run, fault)

    @rule(name=st.sampled_from(NAMES))
    def worker_reports(self, name: str) -> None:
        worker = self.workers[name]
        worker.notice(self.world.stores.batches)
        worker.settle(self.world.broker)
        self.world.roster.report(worker.state)

    @precondition(lambda self: self.world.broker.lines)
    @rule()
    def both_take_all(self) -> None:
        """Each message is delivered twice, before either worker has recorded a line."""
        lines = self.world.broker.lines
        for message in list(lines):
            lines.remove(message)
            for worker in self.workers.values():
                self.world.take(worker, message)

    @precondition(lambda self: self.runs(is_todo=True))
    @rule(name=st.sampled_from(NAMES), is_good=st.booleans(), is_made_good=st.booleans())
    def worker_dies_amid_its_tasks(self, name: str, is_good: bool, is_made_good: bool) -> None:
        """One line of each task is recorded, and the others are lost; repair may have them run at once."""
        worker = self.workers[name]
        for run in [run for run in worker.runs if run.todo]:
            self.world.call(worker, run, is_good=is_good)
            self.world.record(worker, run)
        self.worker_dies(name)
        if is_made_good:
            self.world.clock.advance(REPORT_LIFETIME_S)
            self.look_twice()
            self.worker_does_all(name, None)

    @precondition(lambda self: self.runs())
    @rule(data=st.data(), at=st.integers(1, 8), is_good=st.booleans())
    def result_comes_while_files_are_written(self, data: Any, at: int, is_good: bool) -> None:
        """The batch is cancelled, and its finalizer stalls on the way."""
        worker, run = data.draw(st.sampled_from(self.runs()))
        self.world.cancel(run.message.batch_id)
        self.world.handle(ControlMessage("finalize", run.message.batch_id), Fault(at, How.STALL))
        self.end_task(worker, run, None, is_good=is_good)

    @rule(name=st.sampled_from(NAMES))
    def worker_dies(self, name: str) -> None:
        self.workers[name] = Worker(name)

    # What becomes of processes that stalled amid their work.

    @precondition(lambda self: self.world.stalled)
    @rule(data=st.data(), fault=of_control)
    def stalled_goes_on(self, data: Any, fault: Fault | None) -> None:
        self.world.resume(self.world.stalled[data.draw(st.integers(0, len(self.world.stalled) - 1))], fault)

    @precondition(lambda self: len(self.world.stalled) > MAX_STALLED)
    @rule()
    def stalled_dies(self) -> None:
        self.world.kill(self.world.stalled[0])

    @invariant()
    def one_batch_a_request(self) -> None:
        if hasattr(self, "world"):
            keys = [seen.batch.metadata for seen in self.world.ledger.seen.values()]
            assert len(keys) == len({str(key) for key in keys})

    def end_task(self, worker: Worker, run: Run, fault: Fault | None, *, is_good: bool) -> None:
        while run.todo:
            self.world.call(worker, run, is_good=is_good)
        self.record(worker, run, fault)

    def record(self, worker: Worker, run: Run, fault: Fault | None) -> None:
        if self.world.record(worker, run, fault).is_dead:
            self.workers[worker.name] = Worker(worker.name)

    def runs(self, *, is_todo: bool = False) -> list[tuple[Worker, Run]]:
        """Return the tasks that workers hold; with `is_todo` those that have lines to run."""
        held = [(worker, run) for worker in self.workers.values() for run in worker.runs]
        return [(worker, run) for worker, run in held if run.todo or not is_todo]

    def teardown(self) -> None:
        """Let everything heal, and look at what is left."""
        if not hasattr(self, "world"):
            return
        try:
            heal(self.world, list(self.workers.values()), self.last_faults)
            sweep_all(self.world)
        finally:
            for operation in list(self.world.stalled):
                self.world.kill(operation)
            self.close_stores()

    def close_stores(self) -> None: ...
