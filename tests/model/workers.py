"""A worker by its rules alone: what it takes, which lines it has a model run, and what it has recorded of them."""

from dataclasses import dataclass, field

from app.domain.batch import Usage
from app.domain.lifecycle import Status
from app.domain.result import REQUEST_TIMEOUT, Result, answered, unanswered
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import BatchStore, Delivery, LaneState, ResultStore, WorkerState
from tests.model.broker import Broker, LineMessage


@dataclass(eq=False)
class Run:
    """A task in a worker's hands: the lines to be run, and what came back and is not recorded yet."""

    message: LineMessage
    todo: list[int]
    answers: list[Result] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return not self.todo and not self.answers


@dataclass(eq=False)
class Worker:
    """Holds tasks; what it reports of itself may be as old as the machine lets it get."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def state(self) -> WorkerState:
        return WorkerState(self.name, tuple(run.message.id for run in self.runs), {DEFAULT_UPSTREAM: LaneState(1)})

    def take(self, message: LineMessage, batches: BatchStore, results: ResultStore, broker: Broker) -> Run | None:
        """Begin a task; None where it returns at once, as `LineProcess.run` decides it."""
        batch = batches.find(message.batch_id)
        task = message.task
        is_running = batch is not None and batch.status is Status.IN_PROGRESS
        if task is None or not is_running or any(run.message.id == message.id for run in self.runs):
            broker.part_returned(message)
            return None
        may_have_run = message.delivery is not Delivery.FIRST
        done = results.recorded(message.batch_id, task.first, task.end) if may_have_run else set()
        run = Run(message, [position for position in range(task.first, task.end) if position not in done])
        if run.is_over:
            broker.part_returned(message)
            return None
        self.runs.append(run)
        return run

    def call(self, run: Run, tries: int, *, is_good: bool) -> None:
        """Have the model run the task's next line, and keep what it answers."""
        position, batch_id = run.todo.pop(0), run.message.batch_id
        if is_good:
            payload = answered(batch_id, position, custom_id(position), 200, "req", b'{"try":%d}' % tries)
        else:
            code, message = REQUEST_TIMEOUT
            payload = unanswered(batch_id, position, custom_id(position), code, f"{message} Try {tries}.")
        run.answers.append(Result(batch_id, position, is_good, payload, Usage(output_tokens=tries if is_good else 0)))

    def settle(self, broker: Broker) -> None:
        """Return the tasks of which nothing is left to do."""
        for run in [run for run in self.runs if run.is_over]:
            self.runs.remove(run)
            broker.part_returned(run.message)

    def notice(self, batches: BatchStore) -> None:
        """Look which batches still run, and start no further line of the others."""
        statuses = batches.statuses([run.message.batch_id for run in self.runs])
        for run in self.runs:
            if statuses[run.message.batch_id] is not Status.IN_PROGRESS:
                run.todo.clear()


def custom_id(position: int) -> str:
    return f"line-{position}"
