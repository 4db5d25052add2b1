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
        (Process.CELERY, "CONCURRENCY", "-1"),
        (Process.CELERY, "UPSTREAM_URL", "nowhere"),
        (Process.MIGRATE, "DATABASE_URL", "nowhere"),
        (Process.MIGRATE, "API_KEY", "two\nlines"),
    ],
)
def test_a_wrong_value_ends_a_process_that_needs_it(process: Process, name: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=name):
        load_settings({f"WYLON_{name}": value}, process)
