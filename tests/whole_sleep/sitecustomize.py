"""Mends `time.sleep` in processes under libfaketime, which refuses the absolute sleeps that Python makes of it."""

import select
import time


def _sleep(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        select.select([], [], [], left)


time.sleep = _sleep
