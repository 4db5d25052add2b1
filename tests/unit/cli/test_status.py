import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.cli.status import explain_status
from app.cli.up.options import shared_settings
from app.cli.up.run_folder import RunFolder
from app.config import load_settings
from app.services.ports import LaneState, WorkerState
from app.services.upstream_check import ServerCheck
from app.wiring.setup import prepare
from app.wiring.status import Status

WELL = Status(
    parts={"database": None, "schema": None, "broker": None, "storage": None},
    upstreams=[ServerCheck("default", "http://gpu/v1", True, "lists m", ("m",))],
    workers=[WorkerState("worker-1@host", ("a", "b"), {"default": LaneState(64, in_flight=12, lines_paused=3)})],
    batches={"in_progress": 2, "finalizing": 1, "expiring": 1},
    look=None,
)


def run(*arguments: str, command: Sequence[str] = ("status",), **environ: str) -> Result:
    names = ("DATA", "DATABASE_URL", "BROKER_URL", "UPSTREAM_URL", "UPSTREAM_API_KEY", "API_KEY", "CONFIG")
    unset: dict[str, str | None] = dict.fromkeys(f"WYLON_{name}" for name in names)
    return CliRunner().invoke(main, [*command, *arguments], env={**unset, **environ})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
        return port


def test_where_all_is_well_no_fault_is_told() -> None:
    found = explain_status(WELL)

    assert found["faults"] == []
    assert found["workers"] == [
        {"name": "worker-1@host", "tasks_held": 2, "calls_in_flight": 12, "lines_waiting_for_retry": 3}
    ]


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (replace(WELL, parts={"storage": "read-only"}), "storage: read-only"),
        (replace(WELL, workers=[]), "workers: none has reported"),
        (
            replace(WELL, upstreams=[ServerCheck("gpu", "http://gpu/v1", False, "refuses connections", None)]),
            "upstream gpu http://gpu/v1: refuses connections",
        ),
        (
            replace(
                WELL, workers=[WorkerState("worker-1@host", (), {"gpu": LaneState(64, away="http://gpu/v1: 500")})]
            ),
            "upstream gpu: the last calls failed, and lines wait: http://gpu/v1: 500",
        ),
    ],
)
def test_each_fault_is_named(broken: Status, fault: str) -> None:
    (found,) = explain_status(broken)["faults"]

    assert found.startswith(fault)


def test_a_deployment_of_which_nothing_runs_is_told_part_by_part(tmp_path: Path) -> None:
    prepare(load_settings({"WYLON_DATA": str(tmp_path)}))
    environ = {
        "WYLON_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "WYLON_UPSTREAM_URL": f"http://127.0.0.1:{free_port()}/v1",
    }

    shown = run("--data", str(tmp_path), **environ)
    told = json.loads(run("--data", str(tmp_path), "--json", **environ).output)

    assert shown.exit_code == 1
    assert "wrong  broker: " in shown.output
    assert "refuses connections" in shown.output
    assert "none that has not ended" in shown.output
    assert (told["parts"]["database"], told["parts"]["schema"], told["workers"]) == ("ok", "ok", None)


def test_a_folder_without_a_deployment_is_told(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path))

    assert done.exit_code == 1
    assert "There is no database" in done.output


def started_with(data: Path, *secret_variables: str) -> None:
    """Prepare a folder as `wylon up` does if given these variables and a model server that is away."""
    environ = {"WYLON_DATA": str(data), "WYLON_CONFIG": "", "WYLON_UPSTREAM_URL": f"http://127.0.0.1:{free_port()}/v1"}
    settings = load_settings(environ)
    prepare(settings)
    folder = RunFolder(data)
    folder.run.mkdir(exist_ok=True)
    folder.write_settings(shared_settings(settings), secret_variables)


def test_an_upstream_whose_key_only_the_processes_have_is_no_fault_and_the_variable_is_named(tmp_path: Path) -> None:
    started_with(tmp_path, "WYLON_UPSTREAM_API_KEY")

    told = json.loads(run("--data", str(tmp_path), "--json").output)
    shown = run("--data", str(tmp_path)).output

    (note,) = told["notes"]
    assert "set WYLON_UPSTREAM_API_KEY to the same value here" in note
    assert "set WYLON_UPSTREAM_API_KEY to the same value here" in shown
    assert not [fault for fault in told["faults"] if fault.startswith("upstream")]


def test_an_upstream_is_checked_where_the_key_is_given_too(tmp_path: Path) -> None:
    started_with(tmp_path, "WYLON_UPSTREAM_API_KEY")

    told = json.loads(run("--data", str(tmp_path), "--json", WYLON_UPSTREAM_API_KEY="sk-hush").output)

    assert told["notes"] == []
    assert [fault for fault in told["faults"] if "refuses connections" in fault]


@pytest.mark.parametrize("variable", ["WYLON_DATABASE_URL", "WYLON_BROKER_URL"])
@pytest.mark.parametrize("command", [["status"], ["dispatch", "explain"]])
def test_a_database_or_broker_that_only_the_processes_know_is_asked_for(
    tmp_path: Path, variable: str, command: list[str]
) -> None:
    started_with(tmp_path, variable)

    done = run("--data", str(tmp_path), command=command)

    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert f"set {variable} to the same value here" in done.output


def test_a_key_variable_of_the_file_that_is_missing_here_is_named(tmp_path: Path) -> None:
    config = tmp_path / "wylon.toml"
    config.write_text('[upstreams.gpu]\nurls = ["http://gpu/v1"]\napi_key_env = "GPU_KEY"\n')

    done = run("--data", str(tmp_path), WYLON_CONFIG=str(config))

    assert done.exit_code == 2
    assert "GPU_KEY" in done.output
    assert "the environment that the processes of wylon have" in done.output
