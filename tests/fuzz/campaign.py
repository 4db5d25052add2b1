"""Many inputs to one target: what they cost, and which of them show a defect."""

import signal
import time
import traceback
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import BARE, TARGETS, Target

# A small input takes microseconds; the rest of this is for a machine that is busy.
MAX_SECONDS = 5.0
# Measuring memory slows a parser down by about so much.
_TRACED_SLOWER = 10
# One in so many inputs is made large and its memory measured.
MEASURED_EVERY = 5_000
LARGE_BYTES = 256 * 1024
# Whatever the size: an app's own objects, and the piece of 256 KiB that an upload is read by, with its copies.
_FREE_BYTES = 1024 * 1024
# The input itself is not counted. What costs most is a file of lines of one byte: each is an object of some 40 bytes
# while its piece of 1 MiB is looked at; past that piece memory does not grow.
MAX_MEMORY_RATIO = 80.0


class Hang(BaseException):
    """An input took too long. No Exception: nothing may take it for a refusal."""


@dataclass
class Tally:
    """What some inputs came to."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    slowest: bytes = b""
    memory_ratio: float = 0.0
    defects: dict[str, bytes] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.inputs += other.inputs
        self.seconds += other.seconds
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest
        self.memory_ratio = max(self.memory_ratio, other.memory_ratio)
        self.defects |= other.defects


def run(target: str, seeds: Sequence[bytes], count: int, seed: int) -> Tally:
    """Try the first `count` inputs that come of this seed."""
    random = Random(f"{target} {seed}")
    tally = Tally(target)
    began_at = time.perf_counter()
    for number in range(count):
        data = mutate(random, seeds)
        if number % MEASURED_EVERY == 0:
            # Not on every number: so the same seed gives the same inputs whatever is measured.
            measure(tally, data)
        else:
            attempt(tally, data)
    tally.seconds = time.perf_counter() - began_at
    return tally


def attempt(tally: Tally, data: bytes) -> None:
    """Try one input."""
    began_at = time.perf_counter()
    fault = _fault(TARGETS[tally.target], data)
    took_s = time.perf_counter() - began_at
    tally.inputs += 1
    if took_s > tally.slowest_s:
        tally.slowest_s, tally.slowest = took_s, data
    if fault is not None:
        tally.defects.setdefault(fault, data)


def measure(tally: Tally, data: bytes) -> None:
    """Try a large input made of this one, and measure the memory it takes."""
    large = data[:1] + data[1:] * max(1, LARGE_BYTES // max(1, len(data)))
    tracemalloc.start()
    try:
        fault = _fault(BARE[tally.target], large, MAX_SECONDS * _TRACED_SLOWER)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tally.inputs += 1
    if fault is not None:
        tally.defects.setdefault(fault, large)
    ratio = max(0, peak - _FREE_BYTES) / LARGE_BYTES
    tally.memory_ratio = max(tally.memory_ratio, ratio)
    if ratio > MAX_MEMORY_RATIO:
        tally.defects.setdefault(f"memory: {ratio:.0f} times the input", large)


def _fault(target: Target, data: bytes, within_s: float = MAX_SECONDS) -> str | None:
    try:
        with _time_limit(within_s):
            target(data)
    except (Exception, Hang) as fault:
        last = traceback.extract_tb(fault.__traceback__)[-3 if isinstance(fault, Hang) else -1]
        return f"{type(fault).__name__}: {str(fault)[:200]} ({Path(last.filename).name}:{last.lineno})"
    return None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def raise_hangs() -> None:
    """Have an input that takes too long raise Hang; in each process, once."""

    def hang(_number: int, _frame: Any) -> None:
        raise Hang("took too long")

    signal.signal(signal.SIGALRM, hang)
