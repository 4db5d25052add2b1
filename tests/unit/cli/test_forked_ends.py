"""A forked process ends as one that was started anew, and no end stays unnoticed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.cli.up.child import ChildSpec
from app.cli.up.forking import Loader, bury_orphans
from app.cli.up.run_folder import RunFolder
from app.cli.up.supervisor import Supervisor
from tests.integration.processes import until
from tests.unit.cli.forking_house import ENVIRON, WITHIN_S, command_of, fork, has_ended, start_loader, write_modules

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the loader is for Linux")
ENDS = {
    "number": "import sys; sys.exit(300)",
    "below_zero": "import sys; sys.exit(-1)",
    "large": "import sys; sys.exit(2**40)",
    "words": "import sys; sys.exit('text')",
    "nothing": "import sys; sys.exit()",
    "object": "import sys; sys.exit({'a': 1})",
    "fraction": "import sys; sys.exit(2.5)",
    "error": "1/0",
    "interrupt": "raise KeyboardInterrupt",
    "buffered": "import sys; sys.stdout.write('buffered'); sys.exit(3)",
    "closed": "import sys; sys.stdout.close(); sys.exit(8)",
    "threads": "import threading; threading.Thread(target=lambda: print('from a thread')).start(); raise SystemExit(4)",
    "at_exit": "import atexit; atexit.register(print, 'at exit'); raise SystemExit(5)",
    "at_exit_error": "import atexit; atexit.register(lambda: 1/0); raise SystemExit(6)",
}
WAITS = "import signal; print('up', flush=True); signal.pause()"
# As gunicorn: the process in the middle is killed, and leaves a process that ends by itself.
LEAVES = """
import os, signal
if os.fork() == 0:
    os.setsid()
    os.read(0, 1)
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = {**{f"ends_{name}": code for name, code in ENDS.items()}, "waits": WAITS, "leaves": LEAVES}
    return write_modules(tmp_path_factory.mktemp("ends"), modules)


@pytest.fixture(scope="module")
def loader(folder: Path) -> Iterator[Loader]:
    loader = start_loader(folder)
    yield loader
    loader.stop()


@pytest.mark.parametrize("name", ENDS)
def test_a_process_ends_as_one_that_was_started_anew(loader: Loader, folder: Path, tmp_path: Path, name: str) -> None:
    anew = subprocess.run(
        command_of(f"ends_{name}"),
        cwd=folder,
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=WITHIN_S,
    )

    forked = fork(loader, tmp_path / "output", f"ends_{name}")

    assert forked.wait() == anew.returncode
    assert (tmp_path / "output").read_bytes().splitlines()[-1:] == anew.stdout.splitlines()[-1:]


def test_a_process_for_whose_end_somebody_else_has_waited_has_ended(loader: Loader, tmp_path: Path) -> None:
    forked = fork(loader, tmp_path / "output", "waits")
    os.kill(forked.pid, signal.SIGKILL)
    os.waitpid(forked.pid, 0)

    assert forked.poll() is not None
    assert forked.wait() is not None


def test_an_end_that_somebody_waits_for_is_left_to_them(loader: Loader, tmp_path: Path) -> None:
    forked = fork(loader, tmp_path / "output", "waits")
    os.kill(forked.pid, signal.SIGKILL)
    until(lambda: has_ended(forked.pid), WITHIN_S, "the process ends")

    bury_orphans({forked.pid})

    assert forked.poll() == -signal.SIGKILL


def test_ended_processes_of_a_process_do_not_stay(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.acquire()
    own = start_loader(folder)
    supervisor = Supervisor([ChildSpec("web", command_of("leaves"), ENVIRON, folder, run.log_of("web"))], run, own)
    supervisor.tick()
    until(lambda: run.log_of("web").read_text().endswith("\n"), WITHIN_S, "the process names its child")
    left = psutil.Process(int(run.log_of("web").read_text()))
    process = supervisor.children[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: left.ppid() == os.getpid(), WITHIN_S, "the child is an orphan")
    left.kill()

    def is_gone() -> bool:
        supervisor.tick()
        return not left.is_running()

    until(is_gone, WITHIN_S, "the ended orphan is gone")
    supervisor.stop(lambda _: True)
    own.stop()
    run.release()


def test_an_ended_loader_is_noticed_without_a_fork_and_does_not_stay(folder: Path) -> None:
    own = start_loader(folder)
    assert own.pid is not None
    loader = psutil.Process(own.pid)
    loader.kill()

    def is_gone() -> bool:
        own.look(())
        return not loader.is_running()

    until(is_gone, WITHIN_S, "the ended loader is gone")
    assert own.pid is None
