import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from app.adapters.upstream.answer_memory import AnswerMemory
from app.domain.result import Result
from app.services.ports import Progress
from tests.unit.workers.waiting import WITHIN_S, is_settled, result, run_of, until
from workers.writer import ResultWriter

PROGRESS = [Progress("batch_1", is_dispatched_whole=False, is_recorded_whole=False, lines_outstanding=0)]


class Ledger:
    """A database that a test can close, and that can refuse a number of times."""

    def __init__(self) -> None:
        self.commits: list[list[Result]] = []
        self.tries = 0
        self.refusals = 0
        self.is_open = threading.Event()
        self.is_open.set()

    def record(self, results: Sequence[Result]) -> list[Progress]:
        self.tries += 1
        assert self.is_open.wait(WITHIN_S)
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("The database is away.")
        self.commits.append(list(results))
        return PROGRESS


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def told() -> list[list[Progress]]:
    return []


@pytest.fixture
def start(ledger: Ledger, told: list[list[Progress]]) -> Iterator[Callable[..., ResultWriter]]:
    started: list[ResultWriter] = []

    def start(on_progress: Callable[[list[Progress]], None] = told.append) -> ResultWriter:
        writer = ResultWriter(ledger.record, on_progress)
        writer.start()
        started.append(writer)
        return writer

    yield start
    ledger.is_open.set()
    for writer in started:
        writer.stop()


def test_results_of_a_moment_are_one_commit(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    writer, run = start(), run_of(50)

    for position in range(50):
        writer.put(run, result(position))

    assert is_settled(run, WITHIN_S)
    assert sorted(one.position for commit in ledger.commits for one in commit) == list(range(50))
    assert len(ledger.commits) < 10


def test_what_comes_in_during_a_commit_is_the_next_one(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    writer, run = start(), run_of(101)
    ledger.is_open.clear()
    writer.put(run, result(0))
    until(lambda: ledger.tries == 1)

    for position in range(1, 101):
        writer.put(run, result(position))
    ledger.is_open.set()

    assert is_settled(run, WITHIN_S)
    assert [len(commit) for commit in ledger.commits] == [1, 100]


def test_a_commit_is_bounded_in_bytes(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    writer, run, large = start(), run_of(9), bytes(4 * 1024 * 1024)
    ledger.is_open.clear()
    writer.put(run, result(0))
    until(lambda: ledger.tries == 1)

    for position in range(1, 9):
        writer.put(run, result(position, payload=large))
    ledger.is_open.set()

    assert is_settled(run, WITHIN_S)
    assert max(len(commit) for commit in ledger.commits) <= 5


def test_a_run_is_settled_only_once_its_results_are_committed(
    ledger: Ledger, start: Callable[..., ResultWriter]
) -> None:
    writer, run = start(), run_of(1)
    ledger.is_open.clear()

    writer.put(run, result(0))

    until(lambda: ledger.tries == 1)
    assert not is_settled(run)
    ledger.is_open.set()
    assert is_settled(run, WITHIN_S)
    assert len(ledger.commits) == 1


def test_results_are_kept_while_the_database_is_away(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    ledger.refusals = 2
    writer, run = start(), run_of(2)

    writer.put(run, result(0))
    writer.put(run, result(1))

    assert is_settled(run, WITHIN_S)
    assert ledger.tries >= 3
    assert sorted(one.position for commit in ledger.commits for one in commit) == [0, 1]


def test_a_line_without_a_result_settles_without_a_commit(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    writer, run = start(), run_of(2)

    writer.put(run, None)
    writer.put(run, None)

    assert is_settled(run, WITHIN_S)
    assert ledger.tries == 0


def test_runs_of_several_batches_share_a_commit_and_settle_each(
    ledger: Ledger, start: Callable[..., ResultWriter]
) -> None:
    writer, first, second = start(), run_of(1), run_of(1)

    writer.put(first, result(0, "batch_1"))
    writer.put(second, result(0, "batch_2"))

    assert is_settled(first, WITHIN_S)
    assert is_settled(second, WITHIN_S)


def test_progress_is_told_after_each_commit(start: Callable[..., ResultWriter], told: list[list[Progress]]) -> None:
    writer, run = start(), run_of(1)

    writer.put(run, result(0))

    assert is_settled(run, WITHIN_S)
    assert told == [PROGRESS]


def test_a_broker_that_is_away_does_not_hold_results_up(start: Callable[..., ResultWriter]) -> None:
    def refuse(_progress: list[Progress]) -> None:
        raise ConnectionError("The broker is away.")

    writer, run = start(refuse), run_of(1)

    writer.put(run, result(0))

    assert is_settled(run, WITHIN_S)


def test_stopping_records_what_waits(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    writer, run = start(), run_of(20)
    for position in range(20):
        writer.put(run, result(position))

    writer.stop()

    assert is_settled(run)
    assert sum(map(len, ledger.commits)) == 20


def test_stopping_ends_the_wait_for_a_database_that_is_away(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    ledger.refusals = 1_000_000
    writer, run = start(), run_of(1)
    writer.put(run, result(0))
    until(lambda: ledger.tries >= 1)

    writer.stop()

    assert not is_settled(run)
    assert ledger.commits == []


class CountedMemory(AnswerMemory):
    """Memory that a test looks into."""

    def __init__(self) -> None:
        super().__init__()
        self.unrecorded = 0

    def record_later(self, size: int) -> None:
        self.unrecorded += size

    def recorded(self, size: int) -> None:
        self.unrecorded -= size


def test_large_answers_count_until_they_are_recorded(ledger: Ledger, told: list[list[Progress]]) -> None:
    memory = CountedMemory()
    writer = ResultWriter(ledger.record, told.append, memory)
    run, large, small = run_of(2), b"x" * 300_000, b"x"
    ledger.is_open.clear()

    writer.start()
    try:
        writer.put(run, result(0)._replace(payload=large))
        writer.put(run, result(1)._replace(payload=small))
        until(lambda: ledger.tries == 1)
        assert memory.unrecorded == len(large)

        ledger.is_open.set()
        until(lambda: is_settled(run))
        assert memory.unrecorded == 0
    finally:
        ledger.is_open.set()
        writer.stop()
