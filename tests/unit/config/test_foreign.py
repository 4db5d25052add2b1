from pathlib import Path

import pytest

from app.cli.up.options import child_environ
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
    "REMAP_SIGTERM": "SIGQUIT",
    "RESULT_BACKEND": "redis://elsewhere/0",
}
OWN = {"HOME": "/root", "WYLON_BROKER_URL": "redis://here/0"}


def test_what_celery_reads_for_itself_is_taken_out_of_the_environment() -> None:
    environ = {**OWN, **FOREIGN}

    left_out = leave_out_foreign(environ)

    assert left_out == sorted(FOREIGN)
    assert environ == OWN


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
