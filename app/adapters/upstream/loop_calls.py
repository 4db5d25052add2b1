"""Calls into an event loop from another thread, which may come after the loop's end."""

import asyncio
from collections.abc import Callable
from typing import Any


def call_soon(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *args: Any) -> None:
    """Have the loop's thread call `act`; after the loop was closed, do nothing. Thread-safe."""
    try:
        loop.call_soon_threadsafe(act, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
