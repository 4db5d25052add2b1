"""One round: batches, faults, polls until all have ended, then the checks."""

import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos import checks, recovery
from tests.chaos.api import Caller, Refused, TooLate
from tests.chaos.house import House
from tests.chaos.lines import make_lines
from tests.chaos.model_server import POISON
from tests.chaos.plan import Plan, Throw, When
from tests.chaos.scene import Scene, Submitted

# What a round may take beside its faults.
_ROUND_S = 90.0
# The longest fault, with its process back.
_FAULTS_S = 120.0
_POLL_S = 0.15
_BEGIN_WITHIN_S = 70.0
# Of the lines, when a round's end is near.
_ENDING_SHARE = 0.93
_COUNTS = ("total", "completed", "failed")


@dataclass
class Outcome:
    """What a round came to, fit for JSON."""

    number: int
    database: str
    title: str
    is_pair: bool
    recovery: str
    elapsed_s: float = 0.0
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calls: int = 0
    repeated: int = 0
    allowed: int = 0
    # Calls that were open in workers when these were killed.
    in_flight: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    logs: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Round:
    """Runs a plan in a house."""

    def __init__(self, house: House, plan: Plan) -> None:
        self._house = house
        self._plan = plan
        self._caller = Caller(house.base_url)
        self._scene = Scene(
            house,
            self._caller,
            plan.rng,
            plan.name,
            time.monotonic() + _BEGIN_WITHIN_S + _ROUND_S,
            plan.stall_s,
            plan.cut_s,
        )
        self._began_at = time.monotonic()
        self._spans: list[tuple[float, float]] = []
        self._progress: list[tuple[float, int]] = []
        self.outcome = Outcome(
            plan.number, house.database, plan.title, len(plan.throws) > 1, plan.throws[0].fault.recovery.value
        )

    @property
    def batches(self) -> list[Submitted]:
        return self._scene.batches

    def run(self) -> Outcome:
        """Return what it came to; whatever goes wrong is a violation."""
        scene, outcome = self._scene, self.outcome
        try:
            self._act()
            scene.violations += checks.check_files(scene)
            found = checks.check_calls(scene)
            outcome.calls, outcome.repeated, outcome.allowed = found.calls, found.repeated, found.allowed
            outcome.in_flight = checks.count_in_flight(scene)
            scene.violations += found.violations
            scene.violations += checks.check_blobs(scene)
            outcome.recoveries_s = recovery.measure(
                self._plan.throws[0].fault.recovery, scene, self._spans, self._progress
            )
        except (TooLate, Refused, AssertionError) as fault:
            scene.violations.append(str(fault) or traceback.format_exc())
        except Exception:
            scene.violations.append(f"the round broke: {traceback.format_exc()}")
        finally:
            self._caller.close()
        outcome.violations = scene.violations + [f"the API answered {fault}" for fault in self._caller.faults[:5]]
        outcome.notes = scene.notes
        outcome.elapsed_s = time.monotonic() - self._began_at
        return outcome

    def _act(self) -> None:
        scene, plan = self._scene, self._plan
        self._house.model.ledger.clear()
        self._house.deaths.clear()
        for throw in plan.throws:
            if throw.fault.prepare is not None:
                throw.fault.prepare(scene)
        for number, size in enumerate(plan.sizes):
            name = f"b{number}"
            is_poisoned = size == max(plan.sizes) and any(throw.fault.name == POISON for throw in plan.throws)
            scene.submit(name, make_lines(plan.rng, f"{plan.name}-{name}", size, is_poisoned=is_poisoned))
        self._await_moment()
        threads = [threading.Thread(target=self._throw, args=[throw], daemon=True) for throw in plan.throws]
        for thread in threads:
            thread.start()
        faults_end_by = time.monotonic() + _FAULTS_S
        while True:
            is_thrown = not any(thread.is_alive() for thread in threads)
            if not is_thrown and time.monotonic() < faults_end_by:
                # The clock of the round starts when the faults are over.
                scene.deadline = time.monotonic() + _ROUND_S
            self._poll()
            if is_thrown and all(batch.is_over for batch in scene.batches):
                return
            if time.monotonic() > scene.deadline:
                late = [f"{batch.name} {batch.id} {batch.seen}" for batch in scene.batches if not batch.is_over]
                raise TooLate(f"not ended {_ROUND_S:g} s after the fault: {'; '.join(late)}")
            time.sleep(_POLL_S)

    def _await_moment(self) -> None:
        scene, when = self._scene, self._plan.when
        deadline = time.monotonic() + _BEGIN_WITHIN_S
        lines = sum(len(batch.lines) for batch in scene.batches)
        while when is not When.SUBMITTED and time.monotonic() < deadline:
            self._poll()
            wanted = _ENDING_SHARE * lines if when is When.ENDING else 1
            if scene.recorded >= wanted or all(batch.is_over for batch in scene.batches):
                return
            time.sleep(_POLL_S)

    def _throw(self, throw: Throw) -> None:
        time.sleep(throw.delay_s)
        began_at = time.monotonic()
        try:
            throw.fault.throw(self._scene)
        except (TooLate, Refused) as fault:
            self._scene.violations.append(f"{throw.fault.name}: {fault}")
        except Exception:
            # With two faults at once the one may find nothing to hit where the other was first.
            if len(self._plan.throws) > 1:
                self._scene.notes.append(f"{throw.fault.name} did not happen: {traceback.format_exc(limit=1)}")
            else:
                self._scene.violations.append(f"{throw.fault.name} broke: {traceback.format_exc()}")
        self._spans.append((began_at, time.monotonic()))

    def _poll(self) -> None:
        for batch in list(self._scene.batches):
            if batch.is_over:
                continue
            seen = self._caller.look(batch.id)
            if seen is None:
                # Something is away; the others would wait as long.
                break
            self._note(batch, seen)
        self._progress.append((time.monotonic(), self._scene.recorded))

    def _note(self, batch: Submitted, seen: dict[str, Any]) -> None:
        counts = seen.get("request_counts") or {}
        for name in _COUNTS:
            count = int(counts.get(name, 0))
            if count < batch.highest.get(name, 0):
                before = batch.highest[name]
                self._scene.violations.append(f"{batch.name}: {name} went back from {before} to {count}")
            batch.highest[name] = max(count, batch.highest.get(name, 0))
        batch.seen = seen
