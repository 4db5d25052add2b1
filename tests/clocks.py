"""The real clock of real processes, set while they run: libfaketime between them and the system.

The monotonic clock is left alone, as it is when an operator, NTP or a virtual machine sets the time.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)
# Python finds what mends its sleep there.
_WHOLE_SLEEP = Path(__file__).with_name("whole_sleep")


def find_library() -> Path | None:
    """Return the library that fakes the time; None where the package faketime is not installed."""
    return next((Path(name) for name in _LIBRARIES if Path(name).exists()), None)


def need_library() -> Path:
    """Return the library, or skip the test and say why."""
    library = find_library()
    if library is None:
        pytest.skip("The clocks of processes can't be set: install the package faketime.")
    return library


class Clocks:
    """A clock for each kind of process, that can be set at any moment."""

    def __init__(self, folder: Path, library: Path | None) -> None:
        self._folder = folder
        self._library = library

    def environ(self, kind: str) -> Mapping[str, str]:
        """Return the variables by which a process has the clock of its kind."""
        if not self._path(kind).exists():
            self.set(0, kind)
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path(kind)),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # It is read at each look at the time.
            "FAKETIME_NO_CACHE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_WHOLE_SLEEP), os.environ.get("PYTHONPATH")))),
        }

    def set(self, seconds: float, *kinds: str) -> None:
        """Have the clocks of these kinds be so far ahead of the true one."""
        for kind in kinds:
            written = self._path(kind).with_suffix(".new")
            written.write_text(f"{seconds:+.0f}\n")
            written.replace(self._path(kind))

    def _path(self, kind: str) -> Path:
        return self._folder / f"clock-{kind}"
