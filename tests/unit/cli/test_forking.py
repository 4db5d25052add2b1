"""Processes that are forked from the loader are processes like others, and children of who asked for them."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.cli.up.child import Child, ChildSpec
from app.cli.up.forking import Loader
from tests.integration.processes import until
from tests.unit.cli.forking_house import (
    ENVIRON,
    WITHIN_S,
    await_up,
    command_of,
    fork,
    has_ended,
    start_loader,
    write_modules,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the loader is for Linux")
SAYS = """
import os, sys
print(sys.argv[1:], os.environ['WYLON_DATA'], os.getcwd(), os.getpid() == os.getsid(0))
sys.exit(7)
"""
WAITS = "import signal; print('up', flush=True); signal.pause()"
DRAWS = "import random; print(random.random())"
WRITES = "import os, sys; os.write(int(sys.argv[1]), b'given')"
EPOCH = "from workers.lane import epoch_s; print(epoch_s.cache_info().currsize)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = {"says": SAYS, "waits": WAITS, "writes": WRITES, "draws": DRAWS, "epoch": EPOCH}
    return write_modules(tmp_path_factory.mktemp("forking"), modules)


@pytest.fixture(scope="module")
def loader(folder: Path) -> Iterator[Loader]:
    loader = start_loader(folder)
    yield loader
    loader.stop()


def opened(pid: int) -> dict[int, str]:
    """Return the open descriptors of a process: paths, or kinds."""
    links = {int(link.name): os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {fd: target.partition(":[")[0] for fd, target in links.items()}


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
    await_up(tmp_path / "output")

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
    await_up(tmp_path / "output")
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
    await_up(tmp_path / "output")

    threads = len(list(Path(f"/proc/{loader.pid}/task").iterdir()))
    at_loader, at_process = (opened(pid) for pid in (loader.pid, forked.pid))

    forked.terminate()
    forked.wait()
    assert threads == 1
    # The channel to the supervisor is the only one that belongs to nobody else.
    assert [kind for kind in at_loader.values() if not kind.startswith("/")] == ["socket"]
    assert at_process == {0: "/dev/null", 1: str(tmp_path / "output"), 2: str(tmp_path / "output")}


def test_forked_or_not_a_process_has_the_folder_and_the_environment_of_its_spec(
    loader: Loader, folder: Path, tmp_path: Path
) -> None:
    """A process that a restart forks, and one that it starts without the loader, must not behave differently."""
    elsewhere = write_modules(tmp_path / "elsewhere", {"waits": WAITS})
    seen: list[tuple[bytes, str]] = []
    for cwd, environ in ((folder, ENVIRON), (elsewhere, ENVIRON), (folder, {**ENVIRON, "WYLON_DATA": "there"})):
        for given in (loader, None):
            log = tmp_path / f"{len(seen)}.log"
            child = Child(ChildSpec("waits", command_of("waits"), environ, cwd, log), given)
            pid = child.start()
            await_up(log)
            seen.append((Path(f"/proc/{pid}/environ").read_bytes(), os.readlink(f"/proc/{pid}/cwd")))
            child.kill()

    assert [(b"WYLON_DATA=there" in environ.split(b"\0"), cwd) for environ, cwd in seen] == [
        *[(False, str(folder))] * 2,
        *[(False, str(elsewhere))] * 2,
        *[(True, str(folder))] * 2,
    ]
    assert [set(environ.split(b"\0")) for environ, _ in seen[::2]] == [
        set(environ.split(b"\0")) for environ, _ in seen[1::2]
    ]


def test_a_process_is_forked_though_few_files_may_be_open(folder: Path, tmp_path: Path) -> None:
    own = start_loader(folder)
    assert own.pid is not None
    resource.prlimit(own.pid, resource.RLIMIT_NOFILE, (20, 20))

    forked = fork(own, tmp_path / "output", "says")

    assert forked.wait() == 7
    own.stop()


def test_a_process_takes_the_time_from_its_own_beginning_on(loader: Loader, tmp_path: Path) -> None:
    """The clock may be set, and the machine sleep, between the loading of a module and the begin of a process."""
    assert fork(loader, tmp_path / "output", "epoch").wait() == 0

    assert (tmp_path / "output").read_text() == "0\n"


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
    with subprocess.Popen(command, cwd=folder, env=ENVIRON, pass_fds=[theirs.fileno()]) as process, ours:
        theirs.close()
        assert ours.recv(64) == b"loaded"
        may_go, go = os.pipe()
        with (tmp_path / "output").open("ab") as output:
            request = {"name": ["says"], "command": ["says"], "fds": [1, 2]}
            socket.send_fds(ours, [json.dumps(request).encode()], [may_go, output.fileno(), output.fileno()])
        pid = int(ours.recv(64))
        is_waiting = psutil.pid_exists(pid)

        os.close(go)

        until(lambda: has_ended(pid), WITHIN_S, "the process that nobody knows ends")
        os.close(may_go)
        process.kill()
    assert is_waiting
    assert (tmp_path / "output").read_text() == ""


def test_a_loader_that_stands_still_is_given_up(folder: Path) -> None:
    own = start_loader(folder, forked_within_s=0.2)
    assert own.pid is not None
    pid = own.pid
    os.kill(pid, signal.SIGSTOP)

    assert own.fork("waits", command_of("waits"), {}) is None

    assert not psutil.pid_exists(pid)
    own.stop()


def test_a_loader_that_stands_still_does_not_hold_up_the_end(folder: Path) -> None:
    own = start_loader(folder)
    assert own.pid is not None
    pid = own.pid
    os.kill(pid, signal.SIGSTOP)

    own.stop()

    assert not psutil.pid_exists(pid)


def test_a_stop_ends_the_wait_for_the_loader(folder: Path) -> None:
    own = Loader(ENVIRON, folder)

    own.start(should_stop=lambda: True)

    own.stop()
    assert own.pid is None


def test_what_is_no_module_of_this_python_is_not_forked(loader: Loader) -> None:
    assert loader.fork("true", ["/bin/true"], {}) is None


def test_where_the_loader_has_ended_nothing_is_forked_and_who_was_forked_goes_on(folder: Path, tmp_path: Path) -> None:
    own = start_loader(folder)
    forked = fork(own, tmp_path / "output", "waits")
    assert own.pid is not None
    os.kill(own.pid, signal.SIGKILL)

    assert own.fork("waits", command_of("waits"), {}) is None

    assert forked.poll() is None
    forked.terminate()
    forked.wait()
    own.stop()
