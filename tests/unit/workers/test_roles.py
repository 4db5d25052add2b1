"""Which queues a process of control takes messages from, by those that it was started with."""

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.cli.up import processes
from app.config import Process, load_settings
from workers.roles import ControlRole, process_of

TICKS = ["ticks", "ticks.expire", "ticks.refill", "ticks.repair"]
FILES = ["files", "files.sweep", "files.sweep_blobs", "files.sweep_broker", "files.validate"]


def added(*named: str) -> list[str]:
    """Return what a process that was started with these queues takes messages from."""
    taken: list[str] = []
    given_way: list[bool] = []
    queues = SimpleNamespace(consume_from=dict.fromkeys(named))
    consumer: Any = SimpleNamespace(
        app=SimpleNamespace(amqp=SimpleNamespace(queues=queues)), add_task_queue=taken.append
    )
    ControlRole(consumer, give_way=lambda: given_way.append(True)).start(consumer)
    return [*sorted(taken), *(["gives way"] if given_way else [])]


SETTINGS = load_settings({"WYLON_CONFIG": ""})


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (processes.control_command(SETTINGS), Process.CONTROL),
        (processes.files_command(SETTINGS), Process.FILES),
        (processes.worker_command(SETTINGS, "worker-1"), Process.LINES),
        (processes.beat_command(SETTINGS), Process.BEAT),
        (["worker", "-Qlines", "-n", "beat"], Process.LINES),
        (["worker", "--queues=files"], Process.FILES),
        (["worker", "--queues", "ticks"], Process.CONTROL),
        (["worker", "-n", "beat", "-Q", "ticks,files"], Process.CELERY),
        (["worker"], Process.CELERY),
    ],
)
def test_the_command_line_of_a_celery_process_gives_its_kind(arguments: list[str], kind: Process) -> None:
    assert process_of(arguments) is kind


@pytest.mark.parametrize(
    ("named", "taken"),
    [
        (["ticks"], TICKS),
        (["files"], [*FILES, "gives way"]),
        (["ticks", "files"], sorted(TICKS + FILES)),
        (["lines"], []),
    ],
)
def test_a_process_takes_the_ticks_of_its_queues_too(named: list[str], taken: list[str]) -> None:
    assert added(*named) == taken


def test_a_process_started_as_before_there_were_two_does_all_and_says_what_is_missing() -> None:
    with capture_logs() as logs:
        taken = added("control")

    assert taken == sorted(TICKS + FILES)
    assert [entry["event"] for entry in logs] == ["control.does_everything"]
    assert "-Q ticks" in logs[0]["advice"]
    assert "-Q files" in logs[0]["advice"]
