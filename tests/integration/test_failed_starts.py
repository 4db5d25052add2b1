"""A process that can't start ends with 1, and one line of its log says why."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.cli.up import processes
from app.config import load_settings
from app.wiring.setup import prepare
from tests.integration.processes import START_WITHIN_S, Process, environ_of, until

SETTINGS = load_settings({"WYLON_CONFIG": ""})
COMMANDS = {
    "web": processes.web_command("127.0.0.1:0"),
    "control": processes.control_command(SETTINGS),
    "files": processes.files_command(SETTINGS),
    "worker-1": processes.worker_command(SETTINGS, "worker-1"),
    "beat": processes.beat_command(SETTINGS),
}


@contextmanager
def port_without_a_server() -> Iterator[int]:
    """Hold a port at which nobody accepts a connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def run_to_the_end(command: Sequence[str], folder: Path, **settings: object) -> tuple[int, str]:
    """Run a process that ends by itself; return its exit code and log."""
    data = folder / "data"
    if not data.exists():
        prepare(load_settings({"WYLON_DATA": str(data), "WYLON_CONFIG": ""}))
    environ: Mapping[str, str] = environ_of({"CONFIG": "", "DATA": data, "START_WAIT_S": 0.5, **settings})
    process = Process(processes.run_by_this_python(command), folder / "process.log", environ, folder)
    try:
        until(lambda: process.exit_code is not None, START_WITHIN_S, "the process ends")
    finally:
        process.end()
    assert process.exit_code is not None
    return process.exit_code, process.said()


def faults_in(log: str) -> list[str]:
    """Return the lines that tell a fault, and lines without a level, such as those of a traceback."""
    return [line for line in log.splitlines() if not {"level=info", "level=warning"} & set(line.split())]


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_wrong_setting_ends_every_kind_of_process_with_one_and_a_line(tmp_path: Path, kind: str) -> None:
    code, log = run_to_the_end(COMMANDS[kind], tmp_path, LOG_LEVEL="loud")

    (told,) = faults_in(log)
    assert code == 1
    assert "event=start.failed" in told
    assert "WYLON_LOG_LEVEL: 'loud' is none of" in told
    assert "Traceback" not in log


@pytest.mark.parametrize("kind", ["web", "worker-1"])
@pytest.mark.parametrize("variable", ["DATABASE_URL", "BROKER_URL"])
def test_a_part_that_is_away_ends_a_process_with_one_and_a_line(tmp_path: Path, kind: str, variable: str) -> None:
    with port_without_a_server() as port:
        scheme = "redis://" if variable == "BROKER_URL" else "postgresql://wylon:x@"
        code, log = run_to_the_end(COMMANDS[kind], tmp_path, **{variable: f"{scheme}127.0.0.1:{port}/0"})

    (told,) = faults_in(log)
    assert code == 1
    assert "event=start.failed" in told
    assert f"WYLON_{variable}" in told
    assert "Traceback" not in log


def test_a_wrong_setting_that_beat_does_not_need_is_not_why_beat_ends(tmp_path: Path) -> None:
    with port_without_a_server() as port:
        broker = f"redis://127.0.0.1:{port}/0"
        code, log = run_to_the_end(COMMANDS["beat"], tmp_path, BROKER_URL=broker, WORKERS="many", CORS_ORIGINS="?")

    (told,) = faults_in(log)
    assert code == 1
    assert "WYLON_BROKER_URL" in told


def test_a_port_that_is_taken_ends_the_web_process_with_one_and_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, log = run_to_the_end(processes.web_command(f"127.0.0.1:{port}"), tmp_path)

    (told,) = faults_in(log)
    assert code == 1
    assert f"('127.0.0.1', {port}) failed: [Errno 98] Address already in use" in told
    assert "Choose another WYLON_HOST or WYLON_PORT" in told
