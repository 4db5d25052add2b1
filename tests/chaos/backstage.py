"""The thread of the harness that serves: the model server and the wires run on its loop."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

_WAIT_S = 20.0


class Backstage:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="backstage", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_WAIT_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_WAIT_S)
        if not self.loop.is_running():
            self.loop.close()
