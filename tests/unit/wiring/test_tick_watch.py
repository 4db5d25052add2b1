import pytest
from structlog.testing import capture_logs

from app.domain.errors import Unavailable
from app.services.ticks import EXPIRE, FILES, REFILL, REPAIR
from app.wiring.tick_watch import TickWatcher, check_ticks
from tests.fakes.outside import FakeClock
from tests.fakes.ticks import MemoryTickStore

EACH = dict.fromkeys((EXPIRE, REFILL, REPAIR, FILES), 1)


class House:
    """A watcher whose looks are the test's, and what it said."""

    def __init__(self) -> None:
        self.store, self.clock, self.said = MemoryTickStore(), FakeClock(), list[str]()
        self.watcher = TickWatcher(self.store, self.clock.monotonic)

    def pass_by(self, seconds: int, done: dict[str, int]) -> None:
        for _ in range(seconds // 2):
            self.clock.advance(2)
            self.store.note(done, 0.0)
            self.watcher.look()
            self.watcher.tell(self.said.append)


@pytest.fixture
def house() -> House:
    house = House()
    house.pass_by(10, EACH)
    return house


def test_silence_fails_readiness_and_is_said_once(house: House) -> None:
    with capture_logs() as logged:
        house.pass_by(90, {FILES: 1})

    with pytest.raises(Unavailable, match="beat or control"):
        house.watcher.check()
    (words,) = house.said
    assert words.startswith("Warning: nothing was done for 30 s of: expire, refill, repair.")
    assert [entry["event"] for entry in logged] == ["ticks.silent"]


def test_ticks_that_go_on_are_said_too(house: House) -> None:
    house.pass_by(60, {})
    house.pass_by(4, EACH)

    house.watcher.check()
    assert house.said[1:] == ["All ticks are done again."]


def test_a_database_that_is_away_is_not_taken_for_silence(house: House) -> None:
    house.pass_by(60, {})
    house.store.is_away = True

    house.watcher.look()

    house.watcher.check()


class Ticking(MemoryTickStore):
    """Counts one more of some kinds at each look."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self._kinds = kinds

    def done(self) -> dict[str, int]:
        self.note(dict.fromkeys(self._kinds, 1), 0.0)
        return super().done()


def test_one_short_look_sees_that_ticks_are_done() -> None:
    check_ticks(Ticking(EXPIRE, REFILL, FILES))


def test_one_short_look_names_what_stands_still() -> None:
    with pytest.raises(Unavailable, match=r"nothing was done for 0\.5 s of: files\. .* files run"):
        check_ticks(Ticking(EXPIRE, REFILL), 0.5)


def test_one_short_look_at_a_database_that_is_away_blames_the_database() -> None:
    store = MemoryTickStore()
    store.is_away = True

    with pytest.raises(Unavailable, match="database"):
        check_ticks(store)
