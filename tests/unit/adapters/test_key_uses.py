import threading
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import event

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
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


def test_a_database_that_hangs_does_not_hold_up_the_stop() -> None:
    may_answer = threading.Event()
    uses = KeyUses(lambda _: may_answer.wait(60) and None, FakeClock(), every_s=3_600)
    uses.note("key_1")

    uses.stop()

    assert not may_answer.is_set()
    may_answer.set()


def test_two_processes_write_uses_of_the_same_keys_in_one_order(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    migrate(engine)
    updated = list[str]()
    event.listen(engine, "before_cursor_execute", lambda *call: updated.extend(str(each) for each in call[3]))

    for ids in (["key_1", "key_2", "key_3"], ["key_3", "key_1", "key_2"]):
        SqlKeyStore(engine).note_uses(dict.fromkeys(ids, 1.0))

    # Else each may hold a row that the other waits for.
    assert [each for each in updated if each.startswith("key_")] == ["key_1", "key_2", "key_3"] * 2
    engine.dispose()
