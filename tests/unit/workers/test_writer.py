import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from structlog.testing import capture_logs

from app.adapters.upstream.answer_memory import AnswerMemory
from app.domain.errors import Unavailable
from app.domain.result import Result
from app.services.ports import Progress
from tests.unit.workers.waiting import WITHIN_S, batch_in_hand, is_settled, result, run_of, until
from workers.writer import ResultWriter

PROGRESS = [Progress("batch_1", is_dispatched_whole=False, is_recorded_whole=False, lines_outstanding=0)]


class Ledger:
    """A database that a test can close, and that can refuse a number of times."""

    def __init__(self) -> None:
        self.commits: list[list[Result]] = []
        self.tries = 0
        self.refusals = 0
        # Positions of results with a fault.
        self.broken: set[int] = set()
        self.broken_tries = 0
        self.away_at_tries: set[int] = set()
        self.is_open = threading.Event()
        self.is_open.set()

    def record(self, results: Sequence[Result]) -> list[Progress]:
        self.tries += 1
        assert self.is_open.wait(WITHIN_S)
        if self.refusals or self.tries in self.away_at_tries:
            self.refusals = max(self.refusals - 1, 0)
            raise Unavailable("The database is away.")
        if any(one.position in self.broken for one in results) or self.tries <= self.broken_tries:
            raise ValueError("A fault that nobody foresaw.")
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


def test_a_result_that_breaks_the_recording_holds_up_no_other(
    ledger: Ledger, start: Callable[..., ResultWriter], told: list[list[Progress]]
) -> None:
    ledger.broken, run = {3, 40}, run_of(50)
    writer = start()

    with capture_logs() as logs:
        for position in range(50):
            writer.put(run, result(position))
        assert is_settled(run, WITHIN_S)

    # Repair finds that two lines have no result.
    recorded = [one.position for commit in ledger.commits for one in commit]
    assert sorted(recorded) == [position for position in range(50) if position not in ledger.broken]
    assert len(told) == len(ledger.commits)
    assert {entry["position"] for entry in logs if entry["event"] == "result.broke"} == ledger.broken


def test_a_result_that_fails_alone_is_kept_until_another_tells_that_the_fault_is_its_own(
    ledger: Ledger, start: Callable[..., ResultWriter]
) -> None:
    ledger.broken = {0}
    writer, broken, whole = start(), run_of(1), run_of(1, batch_in_hand("batch_2"))
    # So large that it fills a transaction.
    writer.put(broken, result(0, payload=bytes(17 * 1024 * 1024)))
    until(lambda: ledger.tries > 1)
    is_kept = not is_settled(broken)

    writer.put(whole, result(1, "batch_2"))

    assert is_kept
    assert is_settled(whole, WITHIN_S)
    assert is_settled(broken, WITHIN_S)
    assert [[one.position for one in commit] for commit in ledger.commits] == [[1]]


def test_a_fault_of_all_results_loses_none(ledger: Ledger, start: Callable[..., ResultWriter]) -> None:
    """A schema of another version, for example: the lines would be called again, and again in vain."""
    # The first alone, then all, their halves and each by itself.
    ledger.broken_tries = 8
    ledger.is_open.clear()
    writer, run = start(), run_of(4)
    writer.put(run, result(0))
    until(lambda: ledger.tries == 1)
    for position in range(1, 4):
        writer.put(run, result(position))

    ledger.is_open.set()

    assert is_settled(run, WITHIN_S)
    assert [[one.position for one in commit] for commit in ledger.commits] == [[0, 1, 2, 3]]


def test_a_database_that_goes_away_amid_the_halving_loses_no_result(
    ledger: Ledger, start: Callable[..., ResultWriter]
) -> None:
    writer, run = start(), run_of(3)
    ledger.broken, ledger.away_at_tries = {0}, {3, 4}

    for position in range(3):
        writer.put(run, result(position))

    assert is_settled(run, WITHIN_S)
    assert {one.position for commit in ledger.commits for one in commit} == {1, 2}


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
