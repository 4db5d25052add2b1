"""Beat's schedule, on a broker that is a mapping and a clock that is set."""

from types import SimpleNamespace
from typing import Any

from workers.beat_scheduler import TickScheduler

FAST, SLOW = "beat.fast", "beat.slow"


class Broker:
    """Queues as lists of task names; it may be away."""

    def __init__(self) -> None:
        self.queues: dict[str, list[str]] = {"ticks.fast": [], "ticks.slow": []}
        self.is_away = False

    def llen(self, queue: str) -> int:
        if self.is_away:
            raise ConnectionError("The broker is away.")
        return len(self.queues[queue])

    def send_task(self, task: str, *, queue: str, **_: Any) -> None:
        self.queues[queue].append(task)

    def taken(self) -> list[str]:
        """Take everything that waits, as control does."""
        found = [task for queue in self.queues.values() for task in queue]
        for queue in self.queues.values():
            queue.clear()
        return found

    def close(self) -> None:
        pass


class House:
    """A schedule of two kinds, one each second and one each three."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.broker = Broker()
        entry = {
            FAST: {"task": FAST, "schedule": 1.0, "options": {"queue": "ticks.fast"}},
            SLOW: {"task": SLOW, "schedule": 3.0, "options": {"queue": "ticks.slow"}},
        }
        app: Any = SimpleNamespace(
            conf=SimpleNamespace(beat_schedule=entry, beat_max_loop_interval=1, beat_sync_every=0),
            amqp=SimpleNamespace(Producer=None),
            send_task=self.broker.send_task,
        )
        self.scheduler = TickScheduler(app, monotonic=lambda: self.now, client=self.broker, schedule_filename="beat")

    def after(self, seconds: float) -> list[str]:
        """Let time pass by the steps that the schedule asks for, while control takes what comes."""
        until, taken = self.now + seconds, []
        while True:
            wait_s = self.scheduler.tick()
            taken += self.broker.taken()
            if self.now + wait_s > until:
                self.now = until
                return taken
            self.now += wait_s


def test_each_kind_is_sent_at_its_own_pace() -> None:
    house = House()

    taken = house.after(8.5)

    assert (taken.count(FAST), taken.count(SLOW)) == (9, 3)


def test_no_tick_is_sent_while_one_of_its_kind_waits() -> None:
    house = House()
    house.scheduler.tick()

    for _ in range(20):
        house.now += 1.0
        house.scheduler.tick()

    assert sorted(house.broker.taken()) == [FAST, SLOW]


def test_a_beat_that_stood_still_sends_one_of_each_kind_and_no_burst() -> None:
    house = House()
    house.after(2.0)

    house.now += 3_600.0

    assert sorted(house.after(0.9)) == [FAST, SLOW]


def test_a_broker_that_was_away_gets_the_next_tick() -> None:
    house = House()
    house.broker.is_away = True
    assert house.after(5.0) == []

    house.broker.is_away = False

    assert FAST in house.after(1.5)
