"""Calls that wait, each in a thread of its own that no process waits for when it ends."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def start(call: Callable[[], Result]) -> Future[Result]:
    """Begin a call, and return what it will come to."""
    future: Future[Result] = Future()
    # From now on nobody can cancel it, who then would find the thread at work all the same.
    future.set_running_or_notify_cancel()
    # The threads of an executor are waited for at the end of the process, however long their servers are silent.
    Thread(target=_settle, args=(future, call), daemon=True).start()
    return future


def _settle(future: Future[Result], call: Callable[[], Result]) -> None:
    try:
        future.set_result(call())
    except Exception as fault:  # whoever waits gets it
        future.set_exception(fault)
