"""Runs blocking calls in daemon threads, for which a process does not wait at the end."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def start(call: Callable[[], Result]) -> Future[Result]:
    """Start a call in a new thread, and return a future of the result."""
    future: Future[Result] = Future()
    # From now on the future can't be cancelled: the thread would go on with the call anyway.
    future.set_running_or_notify_cancel()
    # Not an executor: an ending process waits for the threads of an executor, however long the servers stay silent.
    Thread(target=_settle, args=(future, call), daemon=True).start()
    return future


def _settle(future: Future[Result], call: Callable[[], Result]) -> None:
    try:
        future.set_result(call())
    except Exception as fault:  # the waiting caller gets the exception
        future.set_exception(fault)
