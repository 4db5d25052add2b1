import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.cli.up.child import ChildSpec
from app.cli.up.run_folder import FolderTaken, RunFolder, keep_key, read_kept_key, read_secret_variables, read_settings
from app.cli.up.supervisor import Supervisor

SLEEPS = "import time; time.sleep(600)"
IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    folder = RunFolder(tmp_path)
    folder.acquire()
    yield folder
    folder.release()


def spec(folder: RunFolder, name: str, code: str, *, is_broker: bool = False) -> ChildSpec:
    command = [sys.executable, "-u", "-c", code]
    return ChildSpec(name, command, {}, folder.data, folder.log_of(name), is_broker=is_broker)


def pid_of(folder: RunFolder, name: str) -> int | None:
    path = folder.run / f"{name}.pid"
    return int(path.read_text()) if path.exists() else None


def tick_until(supervisor: Supervisor, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        supervisor.tick()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def patience(seconds: float) -> bool:
    time.sleep(min(seconds, 0.01))
    return False


def test_a_child_that_is_killed_is_started_again(folder: RunFolder) -> None:
    supervisor = Supervisor([spec(folder, "worker-1", SLEEPS)], folder)
    supervisor.tick()
    first = pid_of(folder, "worker-1")
    assert first is not None

    os.kill(first, signal.SIGKILL)
    tick_until(supervisor, lambda: pid_of(folder, "worker-1") not in {first, None})

    assert supervisor.is_whole
    supervisor.stop(patience)
    assert list(folder.run.glob("worker*.pid")) == []


def test_a_child_that_keeps_ending_is_told_apart(folder: RunFolder) -> None:
    supervisor = Supervisor([spec(folder, "web", "print('no such thing'); raise SystemExit(3)")], folder)

    tick_until(supervisor, lambda: supervisor.failing(2) is not None)

    failing = supervisor.failing(2)
    assert failing is not None
    assert (failing.spec.name, failing.exit_code) == ("web", 3)
    assert "no such thing" in (folder.logs / "web.log").read_text()
    supervisor.stop(patience)


def test_the_broker_starts_first_and_ends_last(folder: RunFolder) -> None:
    says_goodbye = (
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n    print(time.monotonic()); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up'); time.sleep(600)"
    )
    specs = [spec(folder, "web", says_goodbye), spec(folder, "broker", says_goodbye, is_broker=True)]
    supervisor = Supervisor(specs, folder)

    supervisor.tick_broker()
    assert pid_of(folder, "broker") is not None
    assert pid_of(folder, "web") is None
    tick_until(supervisor, lambda: all("up" in _log(folder, name) for name in ("web", "broker")))
    supervisor.stop(patience)

    ended = {name: float(_log(folder, name).splitlines()[1]) for name in ("web", "broker")}
    assert ended["web"] < ended["broker"]


def test_a_child_that_does_not_end_is_killed_when_patience_ends(folder: RunFolder) -> None:
    supervisor = Supervisor([spec(folder, "worker-1", IGNORES_SIGTERM)], folder)
    tick_until(supervisor, lambda: "up" in _log(folder, "worker-1"))
    pid = pid_of(folder, "worker-1")
    assert pid is not None

    supervisor.stop(lambda seconds: True)

    assert not is_alive(pid)
    assert pid_of(folder, "worker-1") is None


def test_children_of_a_child_end_with_it(folder: RunFolder) -> None:
    starts_another = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]).pid)"
    supervisor = Supervisor([spec(folder, "web", starts_another)], folder)
    supervisor.tick()

    tick_until(supervisor, lambda: supervisor.children[0].exit_code == 0)

    grandchild = int(_log(folder, "web").split()[0])
    # It may be a zombie until whoever adopted it looks.
    tick_until(supervisor, lambda: not is_alive(grandchild) or _state(grandchild) == "Z")
    supervisor.stop(patience)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from app.cli.up.child import ChildSpec\nfrom app.cli.up.run_folder import RunFolder\n"
        "from app.cli.up.supervisor import Supervisor\n"
        "folder = RunFolder(Path(sys.argv[1])); folder.acquire()\n"
        f"command = [sys.executable, '-c', {SLEEPS!r}]\n"
        "Supervisor([ChildSpec('web', command, {}, folder.data, None)], folder).tick()\n"
        "time.sleep(600)"
    )
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code, str(tmp_path)])
    folder = RunFolder(tmp_path)
    _poll(lambda: pid_of(folder, "web") is not None)
    child = pid_of(folder, "web")
    assert child is not None

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    _poll(lambda: not is_alive(child) or _state(child) == "Z")


def test_a_folder_is_for_one_supervisor_at_a_time(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(FolderTaken, match=f"process id {os.getpid()}"):
        RunFolder(tmp_path).acquire()

    folder.release()
    again = RunFolder(tmp_path)
    again.acquire()
    again.release()


def test_the_settings_of_a_start_are_found_by_other_commands(folder: RunFolder) -> None:
    folder.write_settings({"WYLON_UPSTREAM_URL": "http://gpu/v1"})

    assert read_settings(folder.run) == {"WYLON_UPSTREAM_URL": "http://gpu/v1"}


def test_a_secret_of_a_start_is_recorded_by_the_name_of_its_variable(folder: RunFolder) -> None:
    folder.write_settings({"WYLON_UPSTREAM_URL": "http://gpu/v1"}, ["WYLON_UPSTREAM_API_KEY"])

    assert read_secret_variables(folder.run) == {"WYLON_UPSTREAM_API_KEY"}
    assert read_settings(folder.run) == {"WYLON_UPSTREAM_URL": "http://gpu/v1"}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"WYLON_PORT": 1}'])
def test_settings_that_were_torn_count_as_none(folder: RunFolder, content: str) -> None:
    (folder.run / "settings.json").write_text(content)

    assert read_settings(folder.run) == {}
    assert read_secret_variables(folder.run) == set()


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "worker-9.pid").write_text("999999\n")
    (tmp_path / "run" / "broker.sock").touch()

    folder = RunFolder(tmp_path)
    folder.acquire()

    assert sorted(path.name for path in folder.run.iterdir()) == ["up.lock", "up.pid"]
    folder.release()


def test_the_kept_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert read_kept_key(tmp_path) is None

    key = keep_key(tmp_path)

    assert keep_key(tmp_path) == read_kept_key(tmp_path) == key
    assert (tmp_path / "api-key").stat().st_mode & 0o777 == 0o600


def _log(folder: RunFolder, name: str) -> str:
    path = folder.logs / f"{name}.log"
    return path.read_text() if path.exists() else ""


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _poll(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline


def test_a_log_that_grew_too_large_is_put_aside_while_its_process_writes_on(folder: RunFolder) -> None:
    log = folder.log_of("web")
    with log.open("ab", buffering=0) as process:
        process.write(b"old\n" * 100)

        folder.rotate_logs(max_bytes=100)
        process.write(b"new\n")

    assert log.read_text() == "new\n"
    assert (folder.logs / "web.log.1").read_text() == "old\n" * 100


def test_a_log_below_the_limit_stays_as_it_is(folder: RunFolder) -> None:
    folder.log_of("web").write_text("few\n")

    folder.rotate_logs(max_bytes=100)

    assert [path.name for path in folder.logs.iterdir()] == ["web.log"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's group and environment in /proc")
def test_processes_that_a_killed_supervisor_left_end_before_the_next_begins(tmp_path: Path) -> None:
    folder, told = RunFolder(tmp_path), list[str]()
    folder.run.mkdir()
    left = subprocess.Popen([sys.executable, "-c", SLEEPS], start_new_session=True, env={"WYLON_DATA": str(tmp_path)})
    folder.write_pid("web", left.pid)

    folder.acquire(told.append)

    assert left.wait(10) == -signal.SIGKILL
    assert "left behind" in told[0]
    folder.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's group and environment in /proc")
def test_a_process_of_another_folder_that_got_an_old_id_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.run.mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", SLEEPS], start_new_session=True, env={"WYLON_DATA": str(tmp_path / "other")}
    )
    try:
        folder.write_pid("web", other.pid)

        folder.acquire()

        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        folder.release()
