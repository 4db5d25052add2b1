"""The tasks of a process of files, with services that record."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from app.domain.file_work import Work
from tests.unit.workers.waiting import WITHIN_S, until
from workers import file_tasks

AT_ONCE = 4


class Services:
    """Work that lasts until it is let go, of batches that all pass; and a queue that counts refills."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.refills = 0
        self.let_go = threading.Event()
        self.validation = SimpleNamespace(validate=self._validate, work=self._work)
        self.finalization = SimpleNamespace(finalize=self._validate, work=self._work)
        self.queue = SimpleNamespace(refill=self._refill)

    def _work(self, batch_id: str) -> Work:
        return Work("tenant", len(batch_id))

    def _validate(self, batch_id: str, rest: Callable[[], None]) -> bool:
        rest()
        self.begun.append(batch_id)
        return self.let_go.wait(WITHIN_S)

    def _refill(self) -> None:
        self.refills += 1


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    services = Services()
    monkeypatch.setattr(file_tasks, "control", lambda: services)
    # As a worker does before it starts: the first calls of an unbound task are not for several threads at once.
    file_tasks.app.finalize()
    return services


@pytest.fixture
def threads(services: Services) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads
        # Before the threads are waited for.
        services.let_go.set()


def test_a_batch_above_those_that_are_validated_at_once_waits_without_a_thread(
    services: Services, threads: ThreadPoolExecutor
) -> None:
    early = [threads.submit(file_tasks.validate, f"early-{number}") for number in range(AT_ONCE)]
    until(lambda: len(services.begun) == AT_ONCE)

    threads.submit(file_tasks.validate, "late").result(WITHIN_S)

    assert "late" not in services.begun
    services.let_go.set()
    for each in early:
        each.result(WITHIN_S)
    assert services.begun[-1] == "late"


def test_files_are_written_in_the_same_turns(services: Services, threads: ThreadPoolExecutor) -> None:
    early = [threads.submit(file_tasks.validate, f"early-{number}") for number in range(AT_ONCE)]
    until(lambda: len(services.begun) == AT_ONCE)

    threads.submit(file_tasks.finalize, "late").result(WITHIN_S)

    assert "late" not in services.begun
    services.let_go.set()
    for each in early:
        each.result(WITHIN_S)
    assert services.begun[-1] == "late"


def test_for_a_batch_that_passes_a_refill_is_asked_of_the_process_of_ticks(services: Services) -> None:
    services.let_go.set()

    file_tasks.validate("batch_1")

    until(lambda: services.refills == 1)
    assert services.begun == ["batch_1"]
