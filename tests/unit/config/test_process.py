import pytest

from app.config import Process, load_settings
from app.domain.errors import SettingInvalid


@pytest.mark.parametrize(
    ("process", "name", "value"),
    [
        (Process.WEB, "PORT", "many"),
        (Process.WEB, "WORKERS", "0"),
        (Process.WEB, "CONCURRENCY", "-1"),
        (Process.WEB, "TENANT_WEIGHTS", "acme"),
        (Process.CELERY, "PORT", "many"),
        (Process.CELERY, "API_KEY", "two\nlines"),
        (Process.CELERY, "CORS_ORIGINS", "nonsense"),
        (Process.CONTROL, "WORKERS", "many"),
        (Process.CONTROL, "MAX_ANSWER_MIB", "x"),
        (Process.FILES, "DRAIN_GRACE_S", "x"),
        (Process.LINES, "TENANT_WEIGHTS", "acme"),
        (Process.BEAT, "WORKERS", "many"),
        (Process.BEAT, "STORAGE_URL", "nowhere"),
        (Process.BEAT, "CONFIG", "/no/such/file"),
        (Process.BEAT, "UPSTREAM_URL", "nowhere"),
        (Process.WEB, "MAX_ANSWER_MIB", "x"),
        (Process.MIGRATE, "CORS_ORIGINS", "nonsense"),
        (Process.MIGRATE, "UPSTREAM_URL", "nowhere"),
        (Process.MIGRATE, "BROKER_URL", "nowhere"),
        (Process.MIGRATE, "CONFIG", "/no/such/file"),
        (Process.MIGRATE, "MAX_TRIES", "0"),
    ],
)
def test_a_wrong_value_does_not_end_a_process_that_does_not_need_it(process: Process, name: str, value: str) -> None:
    found = load_settings({f"WYLON_{name}": value}, process)

    assert found.port == load_settings({}).port


@pytest.mark.parametrize(
    ("process", "name", "value"),
    [
        (Process.UP, "PORT", "many"),
        (Process.UP, "WORKERS", "0"),
        (Process.WEB, "BROKER_URL", "nowhere"),
        (Process.WEB, "CORS_ORIGINS", "nonsense"),
        (Process.CELERY, "CONCURRENCY", "-1"),
        (Process.CELERY, "UPSTREAM_URL", "nowhere"),
        (Process.CONTROL, "TENANT_WEIGHTS", "acme"),
        (Process.FILES, "WORKERS", "many"),
        (Process.LINES, "MAX_ANSWER_MIB", "x"),
        (Process.LINES, "UPSTREAM_URL", "nowhere"),
        (Process.BEAT, "BROKER_URL", "nowhere"),
        (Process.BEAT, "START_WAIT_S", "x"),
        (Process.MIGRATE, "DATABASE_URL", "nowhere"),
        (Process.MIGRATE, "API_KEY", "two\nlines"),
    ],
)
def test_a_wrong_value_ends_a_process_that_needs_it(process: Process, name: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=name):
        load_settings({f"WYLON_{name}": value}, process)


@pytest.mark.parametrize("process", Process)
def test_every_kind_of_process_reads_the_database_and_the_log_level(process: Process) -> None:
    found = load_settings({"WYLON_LOG_LEVEL": "error", "WYLON_DATA": "/d", "WYLON_CONFIG": ""}, process)

    assert (found.log_level, found.database_url) == ("error", "sqlite:////d/wylon.db")
