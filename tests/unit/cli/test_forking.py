"""Processes that are forked from the loader are processes like others, and children of who asked for them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.cli.up.forking import Forked, Loader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the loader is for Linux")
WITHIN_S = 60.0
SAYS = """
import os, sys
print(sys.argv[1:], os.environ['WYLON_DATA'], os.getcwd(), os.getpid() == os.getsid(0))
sys.exit(7)
"""
WAITS = "import signal; print('up', flush=True); signal.pause()"
DRAWS = "import random; print(random.random())"
WRITES = "import os, sys; os.write(int(sys.argv[1]), b'given')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forking")
    for name, code in (("says", SAYS), ("waits", WAITS), ("writes", WRITES), ("draws", DRAWS)):
        (folder / f"{name}.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def loader(folder: Path) -> Iterator[Loader]:
    # The modules of the loader itself come from the folder of this test run.
    loader = Loader({**os.environ, "WYLON_DATA": "here", "PYTHONPATH": os.getcwd()}, folder)
    loader.start()
    yield loader
    loader.stop()


def fork(loader: Loader, output: Path, module: str, *arguments: str, fds: dict[int, int] | None = None) -> Forked:
    with output.open("ab") as file:
        streams = dict.fromkeys((1, 2), file.fileno())
        forked = loader.fork(module, [sys.executable, "-m", module, *arguments], {**streams, **(fds or {})})
    assert forked is not None
    return forked


def opened(pid: int) -> dict[int, str]:
    """Return the open descriptors of a process: paths, or kinds."""
    links = {int(link.name): os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {fd: target.partition(":[")[0] for fd, target in links.items()}


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_has_its_arguments_environment_folder_session_output_and_exit_code(
    loader: Loader, folder: Path, tmp_path: Path
) -> None:
    forked = fork(loader, tmp_path / "output", "says", "one", "two")

    assert forked.wait() == 7
    assert (tmp_path / "output").read_text() == f"['one', 'two'] here {folder} True\n"


def test_environment_name_and_command_are_seen_from_outside_as_those_of_other_processes(
    loader: Loader, tmp_path: Path
) -> None:
    forked = fork(loader, tmp_path / "output", "waits", "--kind", "web")
    await_true(lambda: (tmp_path / "output").read_text() == "up\n")

    environ = Path(f"/proc/{forked.pid}/environ").read_bytes().split(b"\0")

    name = Path(f"/proc/{forked.pid}/comm").read_text()
    command = psutil.Process(forked.pid).cmdline()
    forked.terminate()
    forked.wait()
    assert b"WYLON_DATA=here" in environ
    assert name == "waits\n"
    assert command == [sys.executable, "-m", "waits", "--kind", "web"]


def test_a_process_is_asked_to_end_by_a_signal(loader: Loader, tmp_path: Path) -> None:
    forked = fork(loader, tmp_path / "output", "waits")
    await_true(lambda: (tmp_path / "output").read_text() == "up\n")
    is_running = forked.poll() is None

    forked.terminate()

    assert is_running
    assert forked.wait() == -signal.SIGTERM


def test_a_process_has_the_descriptors_given_by_their_numbers(loader: Loader, tmp_path: Path) -> None:
    reader, writer = os.pipe()

    forked = fork(loader, tmp_path / "output", "writes", "33", fds={33: writer})

    os.close(writer)
    assert forked.wait() == 0
    assert os.read(reader, 100) == b"given"
    os.close(reader)


def test_a_process_shares_no_thread_no_connection_and_no_descriptor_with_others(loader: Loader, tmp_path: Path) -> None:
    assert loader.pid is not None
    forked = fork(loader, tmp_path / "output", "waits")
    await_true(lambda: (tmp_path / "output").read_text() == "up\n")

    threads = len(list(Path(f"/proc/{loader.pid}/task").iterdir()))
    at_loader, at_process = (opened(pid) for pid in (loader.pid, forked.pid))

    forked.terminate()
    forked.wait()
    assert threads == 1
    # The channel to the supervisor is the only one that belongs to nobody else.
    assert [kind for kind in at_loader.values() if not kind.startswith("/")] == ["socket"]
    assert at_process == {0: "/dev/null", 1: str(tmp_path / "output"), 2: str(tmp_path / "output")}


def test_processes_draw_numbers_at_random_each_by_itself(loader: Loader, tmp_path: Path) -> None:
    for _ in range(2):
        assert fork(loader, tmp_path / "output", "draws").wait() == 0

    first, second = (tmp_path / "output").read_text().splitlines()
    assert first != second


def test_a_process_of_which_the_supervisor_does_not_know_runs_nothing(folder: Path, tmp_path: Path) -> None:
    """The loader may end between the fork and the answer; the supervisor starts the process in another way."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(WITHIN_S)
    command = [sys.executable, "-m", "app.cli.up.loader", str(theirs.fileno()), str(os.getpid())]
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, cwd=folder, env=environ, pass_fds=[theirs.fileno()]) as process, ours:
        theirs.close()
        assert ours.recv(64) == b"loaded"
        may_go, go = os.pipe()
        with (tmp_path / "output").open("ab") as output:
            request = {"name": ["says"], "command": ["says"], "fds": [1, 2]}
            socket.send_fds(ours, [json.dumps(request).encode()], [may_go, output.fileno(), output.fileno()])
        pid = int(ours.recv(64))
        is_waiting = psutil.pid_exists(pid)

        os.close(go)

        await_true(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        os.close(may_go)
        process.kill()
    assert is_waiting
    assert (tmp_path / "output").read_text() == ""


def test_a_loader_that_stands_still_is_given_up(folder: Path) -> None:
    own = Loader({**os.environ, "PYTHONPATH": os.getcwd()}, folder, forked_within_s=0.2)
    own.start()
    assert own.pid is not None
    pid = own.pid
    os.kill(pid, signal.SIGSTOP)

    assert own.fork("waits", [sys.executable, "-m", "waits"], {}) is None

    assert not psutil.pid_exists(pid)
    own.stop()


def test_a_stop_ends_the_wait_for_the_loader(folder: Path) -> None:
    own = Loader({**os.environ, "PYTHONPATH": os.getcwd()}, folder)

    own.start(should_stop=lambda: True)

    own.stop()
    assert own.pid is None


def test_what_is_no_module_of_this_python_is_not_forked(loader: Loader) -> None:
    assert loader.fork("true", ["/bin/true"], {}) is None


def test_where_the_loader_has_ended_nothing_is_forked_and_who_was_forked_goes_on(folder: Path, tmp_path: Path) -> None:
    own = Loader({**os.environ, "PYTHONPATH": os.getcwd()}, folder)
    own.start()
    forked = fork(own, tmp_path / "output", "waits")
    assert own.pid is not None
    os.kill(own.pid, signal.SIGKILL)

    assert own.fork("waits", [sys.executable, "-m", "waits"], {}) is None

    assert forked.poll() is None
    forked.terminate()
    forked.wait()
    own.stop()
