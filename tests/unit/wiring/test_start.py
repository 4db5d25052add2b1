import time
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from structlog.testing import capture_logs

from app.adapters.db.engine import open_engine, writing
from app.adapters.db.migrate import migrate
from app.adapters.db.schema import check_schema, newest_revision
from app.domain.errors import SettingInvalid, Unavailable
from app.wiring.start import PartsMissing, await_parts, ending_plainly

SCRIPTS = Path(__file__).parents[3] / "app" / "adapters" / "db" / "migrations"


class Part:
    """A part that answers after it was asked some times."""

    def __init__(self, *faults: Exception) -> None:
        self._faults = list(faults)
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if self._faults:
            raise self._faults.pop(0)


def test_parts_that_answer_are_not_asked_again() -> None:
    there, late = Part(), Part(Unavailable("not yet"))

    await_parts({"there": there, "late": late}, lambda words: None, within_s=60)

    assert (there.asked, late.asked) == (1, 2)


def test_a_wait_names_each_missing_part_and_its_fault() -> None:
    told = list[str]()
    broker, database = Part(Unavailable("refused"), Unavailable("refused")), Part(Unavailable("no\n schema"))

    await_parts({"broker": broker, "database": database}, told.append, within_s=60, first_word_s=0)

    assert told == ["waiting for broker: refused; database: no schema"]


def test_a_part_that_never_answers_ends_the_wait_with_its_name() -> None:
    began_at = time.monotonic()

    with pytest.raises(PartsMissing, match="for want of broker: refused"):
        await_parts({"broker": Part(*[Unavailable("refused")] * 100)}, lambda words: None, within_s=1)

    assert time.monotonic() - began_at >= 1


def test_a_wrong_setting_ends_the_wait_at_once() -> None:
    part = Part(SettingInvalid("WYLON_BROKER_URL: wrong password"))

    with pytest.raises(SettingInvalid):
        await_parts({"broker": part}, lambda words: None, within_s=60)

    assert part.asked == 1


def test_a_wish_to_stop_ends_the_wait() -> None:
    part = Part(*[Unavailable("refused")] * 100)

    await_parts({"broker": part}, lambda words: None, within_s=60, should_stop=lambda: part.asked > 0)

    assert part.asked == 1


def test_the_newest_revision_is_the_one_that_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))

    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()


def test_a_schema_that_is_missing_old_or_new_is_told_with_the_cure(database_url: str) -> None:
    engine = open_engine(database_url)
    try:
        with pytest.raises(Unavailable, match="no schema yet: run `wylon migrate`"):
            check_schema(engine)
        migrate(engine, "0003")
        with pytest.raises(Unavailable, match="has schema 0003"):
            check_schema(engine)

        migrate(engine)

        check_schema(engine)
        with writing(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        for look in (check_schema, migrate):
            with pytest.raises(Unavailable, match="has schema 9999 and this program needs"):
                look(engine)
    finally:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'wylon.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (SettingInvalid("WYLON_SECRET_FILE: it is empty."), "WYLON_SECRET_FILE: it is empty."),
        (Unavailable("The storage is away."), "The storage is away."),
        (PermissionError(13, "Permission denied", "/srv/secret"), "/srv/secret: Permission denied"),
        (OSError("No room."), "No room."),
    ],
)
def test_a_fault_that_an_operator_can_mend_ends_a_start_with_one_and_its_reason(fault: Exception, told: str) -> None:
    with capture_logs() as logs, pytest.raises(SystemExit) as ended, ending_plainly():
        raise fault

    assert ended.value.code == 1
    assert [(entry["event"], entry["error"]) for entry in logs] == [("start.failed", told)]


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), ending_plainly():
        raise KeyError("unforeseen")
