"""Processes that are forked from the loader are processes like others, and children of who asked for them."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
WRITES = "import os, sys; os.write(int(sys.argv[1]), b'given')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forking")
    for name, code in (("says", SAYS), ("waits", WAITS), ("writes", WRITES)):
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


def test_environment_and_name_are_seen_from_outside_as_those_of_other_processes(loader: Loader, tmp_path: Path) -> None:
    forked = fork(loader, tmp_path / "output", "waits")
    await_true(lambda: (tmp_path / "output").read_text() == "up\n")

    environ = Path(f"/proc/{forked.pid}/environ").read_bytes().split(b"\0")

    name = Path(f"/proc/{forked.pid}/comm").read_text()
    forked.terminate()
    forked.wait()
    assert b"WYLON_DATA=here" in environ
    assert name == "waits\n"


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
