from collections.abc import Mapping

from app.adapters.key_uses import KeyUses
from app.domain.errors import Unavailable
from tests.fakes.outside import FakeClock
from tests.integration.processes import until


def test_uses_are_written_together_and_not_by_the_request() -> None:
    written = list[Mapping[str, float]]()
    clock = FakeClock()
    uses = KeyUses(written.append, clock, every_s=3_600)

    for key_id in ("key_1", "key_2", "key_1"):
        uses.note(key_id)
    before = list(written)
    uses.stop()

    assert before == []
    assert written == [{"key_1": clock.now(), "key_2": clock.now()}]


def test_a_database_that_is_away_ends_nothing() -> None:
    written = list[str]()

    def write(uses: Mapping[str, float]) -> None:
        written.extend(uses)
        if len(written) == 1:
            raise Unavailable("away")

    uses = KeyUses(write, FakeClock(), every_s=0.01)
    uses.note("key_1")
    until(lambda: written, 20, "the first use is tried")

    uses.note("key_2")

    until(lambda: written == ["key_1", "key_2"], 20, "the second use is written")
    uses.stop()
