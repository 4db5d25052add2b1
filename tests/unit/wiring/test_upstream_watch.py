from collections.abc import Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from app.config import Settings, load_settings
from app.services.upstream_check import ServerCheck
from app.wiring.upstream_watch import UpstreamWatch, findings, warn_of_upstreams
from tests.integration.processes import until
from tests.unit.adapters.upstream_server import refusing
from tests.unit.cli.stand_in import stand_in

URL = "http://gpu/v1"


def told_of(settings: Settings) -> list[str]:
    watch, told = UpstreamWatch(settings), list[str]()
    watch.start()

    def look() -> bool:
        watch.tell(told.append)
        return bool(told)

    until(look, 30, "the watch tells what it found")
    watch.tell(told.append)
    return told


@pytest.fixture
def settings_for() -> Callable[[str], Settings]:
    return lambda url: load_settings({"WYLON_UPSTREAM_URL": url})


def test_a_server_that_answers_is_told_once_with_its_models(settings_for: Callable[[str], Settings]) -> None:
    with stand_in() as client:
        told = told_of(settings_for(f"{client.base_url}/v1"))

    assert len(told) == 1
    assert "answers; models: " in told[0]


def test_a_server_that_refuses_is_a_warning_with_its_address_and_a_cure(
    settings_for: Callable[[str], Settings],
) -> None:
    with refusing() as url:
        told = told_of(settings_for(url))

    assert told[0] == f"Warning: upstream default {url}: refuses connections"
    assert "wylon upstreams check" in told[1]


def test_a_check_that_breaks_is_told_and_ends_nothing() -> None:
    settings = replace(load_settings({}), upstreams=(None,))  # type: ignore[arg-type]

    assert told_of(settings)[0].startswith("Warning: the model servers could not be checked: ")


def test_a_worker_warns_of_a_server_that_refuses_and_goes_on(settings_for: Callable[[str], Settings]) -> None:
    with refusing() as url, capture_logs() as logs:
        warn_of_upstreams(settings_for(url))

        until(lambda: logs, 30, "the server is told")

    assert [(each["event"], each["url"], each["error"]) for each in logs] == [
        ("upstream.unreachable", url, "refuses connections")
    ]


def test_of_many_models_a_few_are_shown_and_the_rest_is_counted() -> None:
    models = tuple(f"m{number}" for number in range(7))

    lines = list(findings([ServerCheck("gpu", URL, True, "lists m0", models)]))

    assert lines == [f"upstream gpu {URL}: answers; models: m0, m1, m2, m3, 3 more"]
