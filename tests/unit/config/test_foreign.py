import os
from pathlib import Path

import pytest
from psycopg.pq import Conninfo

from app.cli.up.options import child_environ, merged_environ
from app.config import foreign_variables, foreign_warnings, leave_out_foreign, load_settings

FOREIGN = {
    "BROKER_URL": "redis://user:hush@elsewhere/0",
    "CELERY_BROKER_READ_URL": "redis://elsewhere/0",
    "CELERY_BROKER_URL": "redis://user:hush@elsewhere/0",
    "CELERY_CONFIG_MODULE": "somebodys.config",
    "CELERY_LOADER": "somebodys:Loader",
    "CELERY_RESULT_BACKEND": "redis://elsewhere/0",
    "CELERY_WORKER_AUTOSCALE": "10,3",
    "CONFIG_MODULE": "somebodys.config",
    "PGPASSWORD": "quiet",
    "PGSERVICE": "somebodys",
    "REMAP_SIGTERM": "SIGQUIT",
    "RESULT_BACKEND": "redis://elsewhere/0",
}
OWN = {"HOME": "/root", "WYLON_BROKER_URL": "redis://here/0"}


def test_what_celery_and_libpq_read_for_themselves_is_taken_out_of_the_environment() -> None:
    environ = {**OWN, **FOREIGN}

    left_out = leave_out_foreign(environ)

    assert left_out == sorted(FOREIGN)
    assert environ == OWN


def test_each_variable_of_this_libpq_is_left_out() -> None:
    read = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}

    assert foreign_variables(dict.fromkeys(read, "")) == sorted(read)


def test_a_command_reads_no_foreign_variable_and_still_warns_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")

    merged = merged_environ({})

    assert "PGHOST" not in os.environ
    assert any(
        "PGHOST is left out" in warning and "WYLON_DATABASE_URL" in warning for warning in foreign_warnings(merged)
    )


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_left_out_is_named_without_its_value(name: str) -> None:
    (warning,) = foreign_warnings({**OWN, name: FOREIGN[name]})

    assert f"{name} is left out" in warning
    assert FOREIGN[name] not in warning


def test_children_are_not_given_what_is_left_out(tmp_path: Path) -> None:
    environ = {**OWN, **FOREIGN, "WYLON_DATA": str(tmp_path)}

    given = child_environ(environ, load_settings(environ))

    assert foreign_variables(given) == []
    assert given["WYLON_BROKER_URL"] == OWN["WYLON_BROKER_URL"]
