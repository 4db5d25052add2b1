"""Stop signals, and waits that end at a signal."""

import os
import select
import signal
from types import FrameType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SignalWatch:
    """Counts stop signals from construction on; for the main thread of a process that owns its signals."""

    def __init__(self) -> None:
        self.stops = 0
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        # A pipe ends the wait; a flag alone could be set between the check of the flag and the wait.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            # `nohup` and a shell's `&` start a process with a signal ignored: the signal stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note_stop)
        # The handler is empty; the byte in the pipe ends the wait as soon as a child has ended.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    @property
    def is_stopping(self) -> bool:
        """Whether the process was asked to end."""
        return self.stops > 0

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or at a signal."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if ready:
            os.read(self._reader, 4096)

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1
