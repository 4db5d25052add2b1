"""Beat or control that ticks no more is seen, whatever the clocks of their hosts say."""

import fakeredis
import pytest
import redis

from app.adapters.ticks import RedisTicks
from app.domain.errors import Unavailable
from app.wiring.ticks import TickWatch, see_tick


class House:
    """A watch whose seconds a test lets pass, with a look each two seconds."""

    def __init__(self) -> None:
        self.ticks = RedisTicks(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
        self.told = list[str]()
        self.now = 0.0
        self.is_broker_away = False
        self.watch = TickWatch(self.read, self.told.append, monotonic=lambda: self.now)
        self.watch.look()

    def read(self) -> bytes | None:
        if self.is_broker_away:
            raise redis.ConnectionError("refused")
        return self.ticks.last()

    def wait(self, seconds: int, *, is_ticking: bool = False) -> None:
        for _ in range(0, seconds, 2):
            self.now += 2
            if is_ticking:
                self.ticks.note()
            self.watch.look()


def test_a_process_that_sees_no_tick_for_30_s_says_so_once_and_again_when_they_are_back() -> None:
    house = House()

    house.wait(60, is_ticking=True)
    house.wait(28)
    house.watch.check()
    house.wait(60)

    with pytest.raises(Unavailable, match="no tick for 30 s"):
        house.watch.check()
    house.wait(2, is_ticking=True)
    house.watch.check()
    assert [words[:8] for words in house.told] == ["no tick ", "beat and"]


def test_ticks_that_never_began_are_late_too() -> None:
    house = House()

    house.wait(30)

    with pytest.raises(Unavailable):
        house.watch.check()


def test_a_standstill_of_the_one_who_looks_makes_no_tick_late() -> None:
    house = House()

    house.now += 3_600
    house.watch.look()

    house.watch.check()


def test_a_broker_that_is_away_is_no_tick_that_is_late() -> None:
    house = House()
    house.is_broker_away = True

    house.wait(60)

    house.watch.check()


def test_one_look_waits_for_a_tick_and_names_what_should_tick() -> None:
    ticks = RedisTicks(fakeredis.FakeRedis(server=fakeredis.FakeServer()))

    def read() -> bytes | None:
        ticks.note()
        return ticks.last()

    see_tick(read)
    with pytest.raises(Unavailable, match="beat and control"):
        see_tick(ticks.last, within_s=0)
