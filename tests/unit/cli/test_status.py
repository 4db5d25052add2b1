import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.cli.status import explain_status
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


def run(*arguments: str, **environ: str) -> Result:
    unset = {"WYLON_DATA": None, "WYLON_DATABASE_URL": None, "WYLON_BROKER_URL": None, "WYLON_UPSTREAM_URL": None}
    return CliRunner().invoke(main, ["status", *arguments], env={**unset, **environ})


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
