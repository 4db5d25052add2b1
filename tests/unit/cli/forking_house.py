"""Modules that a process can run, and a loader that forks processes to run these."""

import os
import sys
from pathlib import Path

import psutil

from app.cli.up.forking import Forked, Loader
from tests.integration.processes import until

WITHIN_S = 60.0
# The modules of the loader itself come from the folder of this test run.
ENVIRON = {**os.environ, "WYLON_DATA": "here", "PYTHONPATH": os.getcwd()}


def write_modules(folder: Path, modules: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    return folder


def start_loader(folder: Path, **options: float) -> Loader:
    loader = Loader(ENVIRON, folder, **options)
    loader.start()
    return loader


def command_of(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def fork(loader: Loader, output: Path, module: str, *arguments: str, fds: dict[int, int] | None = None) -> Forked:
    with output.open("ab") as file:
        streams = dict.fromkeys((1, 2), file.fileno())
        forked = loader.fork(module, command_of(module, *arguments), {**streams, **(fds or {})})
    assert forked is not None
    return forked


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to take note of its end."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def await_up(log: Path) -> None:
    """Wait until a process has said that it is up."""
    until(lambda: log.read_text() == "up\n", WITHIN_S, "the process is up")
