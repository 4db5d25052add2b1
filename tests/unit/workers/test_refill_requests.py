"""Requests for a refill are passed on together, and none is lost."""

import threading

from tests.unit.workers.waiting import until
from workers.refill_requests import RefillRequests


class Asked:
    """Notes the requests that were made before each ask."""

    def __init__(self, *, faults: int = 0) -> None:
        self.requests = 0
        self.seen: list[int] = []
        self._faults = faults

    def ask(self) -> None:
        self.seen.append(self.requests)
        if len(self.seen) <= self._faults:
            raise OSError("The broker is away.")


def test_the_first_request_is_passed_on() -> None:
    asked = Asked()

    RefillRequests(asked.ask, every_s=600).request()

    until(lambda: asked.seen != [])


def test_requests_within_the_least_time_between_two_asks_are_one_ask() -> None:
    asked = Asked()
    requests = RefillRequests(asked.ask, every_s=600)
    requests.request()
    until(lambda: asked.seen != [])

    for _ in range(100):
        requests.request()

    assert len(asked.seen) == 1


def test_the_last_request_is_followed_by_an_ask() -> None:
    asked = Asked()
    requests = RefillRequests(asked.ask, every_s=0.001)

    def request_some() -> None:
        for _ in range(50):
            asked.requests += 1
            requests.request()

    thread = threading.Thread(target=request_some)
    thread.start()
    thread.join()

    until(lambda: bool(asked.seen) and asked.seen[-1] == 50)


def test_a_fault_does_not_end_the_asking() -> None:
    asked = Asked(faults=1)
    requests = RefillRequests(asked.ask, every_s=0.001)
    requests.request()
    until(lambda: len(asked.seen) == 1)

    requests.request()

    until(lambda: len(asked.seen) == 2)
