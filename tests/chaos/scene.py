"""What a fault sees of its round, and what it says about it."""

import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos import processes
from tests.chaos.api import Caller
from tests.chaos.house import EXTRA_WORKER, House
from tests.chaos.ledger import Hit
from tests.chaos.lines import Line

COMPLETED = frozenset({"completed"})


@dataclass(eq=False)
class Submitted:
    """A batch of the round, as the caller knows it."""

    name: str
    id: str
    input_file_id: str
    lines: list[Line]
    # The statuses that it may end with.
    may_end: frozenset[str] = COMPLETED
    seen: dict[str, Any] = field(default_factory=dict)
    # The highest counts seen, which no later look may fall below.
    highest: dict[str, int] = field(default_factory=dict)

    @property
    def recorded(self) -> int:
        counts = self.seen.get("request_counts") or {}
        return int(counts.get("completed", 0) + counts.get("failed", 0))

    @property
    def status(self) -> str:
        return str(self.seen.get("status", "unseen"))

    @property
    def is_over(self) -> bool:
        return self.status in {"completed", "failed", "cancelled", "expired"}


@dataclass(eq=False)
class Scene:
    """One round while it runs; faults act on it from threads of their own."""

    house: House
    caller: Caller
    rng: Random
    name: str
    deadline: float
    stall_s: float
    cut_s: float
    batches: list[Submitted] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    # Instants at which workers were killed, with their process ids.
    kills: list[tuple[int, float]] = field(default_factory=list)
    # Lines whose message was delivered twice.
    copied_lines: int = 0
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # Something may have left bytes that only the sweep of a day later removes.
    has_crumbs: bool = False
    _is_over: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def pick_worker(self) -> tuple[str, int]:
        """Return a worker that runs, most often one that has calls open."""
        workers = sorted(self.house.workers().items())
        now = time.monotonic()
        calls = self.house.model.ledger.all()
        busy = [(name, pid) for name, pid in workers if any(call.pid == pid and call.was_open(now) for call in calls)]
        return self.rng.choice(busy or workers)

    def pid_of(self, name: str) -> int:
        return self.house.pids()[name]

    def hit(self, pid: int, since: float, until: float) -> None:
        self.hits.append(Hit(pid, since, until))

    def hit_workers(self, since: float, until: float, only: str | None = None) -> None:
        """Write down that all workers, or one, could not record what was answered in this span."""
        for name, pid in self.house.workers().items():
            if only in (None, name):
                self.hit(pid, since, until)

    def kill(self, name: str, *, is_awaited: bool = True) -> float:
        """Kill a process by its name and wait until it is there again; return the instant."""
        pid = self.pid_of(name)
        at = processes.kill(pid)
        if name.startswith("worker-"):
            self.hit(pid, at, at)
            self.kills.append((pid, at))
        if name in ("files", "web"):
            self.has_crumbs = True
        if is_awaited:
            self.house.await_back(name, pid)
        return at

    def submit(self, name: str, lines: list[Line], window: str = "24h") -> Submitted:
        """Upload and create a batch, however long that takes."""
        content = b"\n".join(line.encode() for line in lines) + b"\n"
        # Replayed on another house or repeated in this one, a name stands for one batch alone.
        batch = self.caller.create(content, f"{self.name}-{name}-{time.monotonic_ns()}", window, self.deadline)
        submitted = Submitted(name, batch["id"], batch["input_file_id"], lines, seen=batch)
        self.batches.append(submitted)
        return submitted

    @property
    def largest(self) -> Submitted:
        return max(self.batches, key=lambda batch: len(batch.lines))

    @property
    def recorded(self) -> int:
        return sum(batch.recorded for batch in list(self.batches))

    @property
    def extra_worker(self) -> str:
        return EXTRA_WORKER
