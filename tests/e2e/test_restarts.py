"""`wylon up` under kills and restarts: whatever dies comes back, and batches go on where they were."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from tests.e2e.deployed import STOP_WITHIN_S, Deployed, await_completed, await_end, content_lines, submit
from tests.integration.pipeline import custom_ids, request_lines
from tests.integration.processes import WYLON, environ_of, until

pytestmark = pytest.mark.e2e

BACK_WITHIN_S = 60.0
# An address, gunicorn or a shell would read more in it than a name.
ODD_NAME = "50% #1?x=y "
COMMANDS = {
    "web": "-m gunicorn",
    "control": "worker -Q ticks",
    "files": "worker -Q files",
    "worker-1": "worker -Q lines -n worker-1@",
    "beat": "workers.celery_app beat",
    "broker": "valkey-server",
}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the other systems show none of this")


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    """A deployment that is killed and restarted, so that no other module has it."""
    deployed = Deployed(folder_name=ODD_NAME)
    yield deployed
    deployed.end()


@pytest.fixture
def running(deployed: Deployed) -> Deployed:
    """The module's deployment, started again if the test before has ended it."""
    if deployed.up.exit_code is not None:
        deployed.start()
    return deployed


def assert_completes(deployed: Deployed, batch_id: str, lines: int) -> None:
    client = deployed.client()
    batch = await_end(client, batch_id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": lines, "completed": lines, "failed": 0}
    output = content_lines(client, batch.output_file_id)
    assert custom_ids(output) == [f"id-{number}" for number in range(lines)]


@linux_only
def test_the_workers_alone_wait_for_the_turns_of_others_to_end(running: Deployed) -> None:
    pids = running.pids()

    until(
        lambda: (
            {os.sched_getscheduler(thread.id) for thread in psutil.Process(pids["worker-1"]).threads()}
            == {os.SCHED_BATCH}
        ),
        BACK_WITHIN_S,
        "each thread of the worker waits for others' turns to end",
    )
    assert {os.sched_getscheduler(pids[name]) for name in pids if name != "worker-1"} == {os.sched_getscheduler(0)}


def test_every_process_that_is_killed_comes_back_and_the_batch_completes(running: Deployed) -> None:
    client = running.client()
    batch_id = submit(client, request_lines(300, "[[sleep:250]]")).id
    await_completed(client, batch_id, 10)
    names = ["beat", "broker", "control", "files", "web", "worker-1"]
    assert sorted(set(running.pids()) - {"up"}) == names

    for name in names:
        killed = running.pids()[name]
        os.kill(killed, signal.SIGKILL)
        until(
            lambda name=name, killed=killed: running.pids().get(name) not in (None, killed),
            BACK_WITHIN_S,
            f"{name} is back",
        )

    assert_completes(running, batch_id, 300)


@linux_only
def test_the_processes_are_told_apart_by_their_commands(running: Deployed) -> None:
    pids = running.pids()

    commands = {name: " ".join(psutil.Process(pid).cmdline()) for name, pid in pids.items()}

    assert {name: told for name, told in COMMANDS.items() if told in commands[name]} == COMMANDS


@linux_only
def test_where_the_process_that_forks_the_others_was_killed_they_go_on_and_come_back(running: Deployed) -> None:
    client = running.client()
    batch_id = submit(client, request_lines(150, "[[sleep:250]]")).id
    await_completed(client, batch_id, 10)
    before = running.pids()
    loader = next(one for one in running.processes() if one.cmdline()[-1:] == ["app.cli.up.loader"])

    loader.kill()
    os.kill(before["worker-1"], signal.SIGKILL)

    until(lambda: running.pids().get("worker-1") not in (None, before["worker-1"]), BACK_WITHIN_S, "the worker is back")
    assert_completes(running, batch_id, 150)
    assert {**running.pids(), "worker-1": None} == {**before, "worker-1": None}


def test_a_stop_leaves_no_process_and_a_start_goes_on(running: Deployed) -> None:
    client = running.client()
    batch_id = submit(client, request_lines(150, "[[sleep:250]]")).id
    await_completed(client, batch_id, 10)
    processes = running.processes()
    began_at = time.monotonic()

    exit_code = running.up.terminate(within_s=20)

    assert exit_code == 0
    assert time.monotonic() - began_at < STOP_WITHIN_S
    assert [process for process in processes if process.is_running()] == []
    assert running.pids() == {}
    running.start()
    assert_completes(running, batch_id, 150)


def test_a_data_folder_with_an_odd_name_is_as_good_as_another(running: Deployed) -> None:
    batch_id = submit(running.client(), request_lines(3)).id

    assert_completes(running, batch_id, 3)
    assert {path.name for path in running.folder.iterdir() if path.is_dir()} == {ODD_NAME}


def test_code_that_lies_in_the_data_folder_is_not_run(running: Deployed) -> None:
    """`wylon up --data .` in a project: Python takes modules from the current folder first."""
    running.up.terminate(within_s=20)
    ran = running.folder / "ran"
    foreign = [running.data / "uvloop.py", running.data / "app.py", running.data / "workers.py"]
    for module in foreign:
        module.write_text(f"open({str(ran)!r}, 'w')")

    running.start()

    assert_completes(running, submit(running.client(), request_lines(3)).id, 3)
    assert not ran.exists()
    for module in foreign:
        module.unlink()


def test_the_last_use_of_a_key_outlives_a_stop(running: Deployed) -> None:
    used_at = int(time.time())
    running.client().models.list()

    assert running.up.terminate(within_s=20) == 0

    done = subprocess.run(
        [WYLON, "keys", "list", "--data", str(running.data), "--json"],
        env=environ_of({}),
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (key,) = json.loads(done.stdout)
    assert key["last_used_at"] >= used_at
    running.start()


def test_the_status_of_a_running_deployment_names_its_workers_and_no_fault(running: Deployed) -> None:
    done = subprocess.run(
        [WYLON, "status", "--data", str(running.data), "--json"],
        env=environ_of({}),
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )

    found = json.loads(done.stdout)
    assert (done.returncode, found["faults"]) == (0, [])
    assert [worker["name"].partition("@")[0] for worker in found["workers"]] == ["worker-1"]


def test_a_stop_amid_calls_leaves_logs_of_one_format_without_a_trace(running: Deployed) -> None:
    batch_id = submit(running.client(), request_lines(60, "[[sleep:4000]]")).id
    until(lambda: running.client().batches.retrieve(batch_id).status == "in_progress", BACK_WITHIN_S, "it runs")

    # What the tests before have killed left traces.
    logs = [path for path in (running.data / "log").glob("*.log") if path.stem != "broker"]
    before = {path: path.stat().st_size for path in logs}

    assert running.up.terminate(within_s=20) == 0

    assert "Stopping; started again on the same folder" in running.up.said()
    lines = [line for path in logs for line in path.read_bytes()[before[path] :].decode().splitlines() if line]
    # Celery prints this one past its log.
    others = [line for line in lines if not line.startswith(("timestamp=", "worker: "))]
    assert others == []
    assert [line for line in lines if "Traceback" in line] == []
    running.start()
    running.client().batches.cancel(batch_id)


def test_a_killed_supervisor_takes_its_processes_with_it_and_a_start_goes_on(running: Deployed) -> None:
    client = running.client()
    batch_id = submit(client, request_lines(100, "[[sleep:250]]")).id
    await_completed(client, batch_id, 10)
    processes = running.processes()

    running.up.kill()

    _, alive = psutil.wait_procs(processes, 10)
    assert alive == []
    running.start()
    assert_completes(running, batch_id, 100)


def test_after_a_killed_supervisor_the_same_port_is_served_again_at_once(running: Deployed) -> None:
    port = urlsplit(running.base_url).port

    running.up.kill()
    running.start(port=port)

    assert urlsplit(running.base_url).port == port


def test_a_folder_that_is_in_use_is_refused(running: Deployed) -> None:
    second = running.start_beside()

    until(lambda: second.exit_code is not None, 60, "the second one ends")

    assert second.exit_code != 0
    assert f"process id {running.up.pid}" in second.said()
    assert running.up.exit_code is None
