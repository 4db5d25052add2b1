"""What has to be true when a round is over."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.domain import result
from tests.chaos.ledger import Call, Hit
from tests.chaos.lines import Line
from tests.chaos.model_server import GARBLED, OK, POISON, REFUSED
from tests.chaos.scene import Scene, Submitted

# How many of a kind are told one by one.
_TOLD = 5
# Of the product, once it knows of lines that end their worker.
_WORKER_LOST = getattr(result, "WORKER_LOST", ("worker_lost",))[0]
_NEVER_RAN = {"cancelled": "batch_cancelled", "expired": "batch_expired"}
# A deleted file's bytes go at the next sweep, every 10 s.
_BLOBS_GONE_WITHIN_S = 25.0


@dataclass
class CallCheck:
    """The calls of a round."""

    calls: int = 0
    repeated: int = 0
    allowed: int = 0
    violations: list[str] = field(default_factory=list)


def check_files(scene: Scene) -> list[str]:
    """Return what is wrong with the ends of batches and their files."""
    found = []
    for batch in scene.batches:
        found += [f"{batch.name} {batch.id}: {wrong}" for wrong in _check_batch(scene, batch)]
    return found


def _check_batch(scene: Scene, batch: Submitted) -> list[str]:
    if batch.status not in batch.may_end:
        told = {key: batch.seen.get(key) for key in ("errors", "request_counts")}
        return [f"ended {batch.status}, not {sorted(batch.may_end)}: {told}"]
    output = _read(scene, batch.seen.get("output_file_id"))
    errors = _read(scene, batch.seen.get("error_file_id"))
    found = []
    place = {line.custom_id: number for number, line in enumerate(batch.lines)}
    for name, lines in (("output", output), ("error", errors)):
        places = [place.get(line["custom_id"], -1) for line in lines]
        if places != sorted(places):
            found.append(f"the {name} file is not in input order")
    counted = Counter(line["custom_id"] for line in [*output, *errors])
    if doubled := [custom_id for custom_id, count in counted.items() if count > 1]:
        found.append(f"{len(doubled)} lines are in the files more than once: {doubled[:_TOLD]}")
    if missing := [line.custom_id for line in batch.lines if line.custom_id not in counted]:
        found.append(f"{len(missing)} lines are missing: {missing[:_TOLD]}")
    if len(output) + len(errors) != len(batch.lines):
        found.append(f"{len(output)} + {len(errors)} lines of {len(batch.lines)}")
    by_id = {line.custom_id: line for line in batch.lines}
    wrong = [(line, _is_right(by_id.get(line["custom_id"]), line, batch.status)) for line in [*output, *errors]]
    if unlike := [line for line, is_right in wrong if not is_right]:
        found.append(f"{len(unlike)} lines are not what the model answered: {unlike[:2]}")
    return found + _check_counts(batch, output, errors)


def _check_counts(batch: Submitted, output: list[dict[str, Any]], errors: list[dict[str, Any]]) -> list[str]:
    never_ran = [line for line in errors if (line["error"] or {}).get("code") in _NEVER_RAN.values()]
    counts = batch.seen["request_counts"]
    expected = {"total": len(batch.lines), "completed": len(output), "failed": len(errors)}
    without = {**expected, "failed": len(errors) - len(never_ran)}
    return [] if counts in (expected, without) else [f"counts are {counts}, the files have {expected}"]


def _read(scene: Scene, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(line) for line in scene.caller.content(file_id, time.monotonic() + 30).splitlines()]


def _is_right(line: Line | None, written: dict[str, Any], status: str) -> bool:
    error, response = written["error"], written["response"]
    if line is None:
        return False
    if error is not None and error["code"] == _NEVER_RAN.get(status):
        return True
    if line.kind == OK:
        return bool(response and response["status_code"] == 200 and response["body"]["id"] == line.marker)
    if line.kind == REFUSED:
        return bool(response and response["status_code"] == 400 and line.marker in json.dumps(response["body"]))
    if line.kind == GARBLED:
        return bool(error and error["code"] == "invalid_response")
    return line.kind == POISON and bool(error and error["code"] == _WORKER_LOST)


def check_calls(scene: Scene) -> CallCheck:
    """Compare calls that were made again with those that may be.

    A line may be called once more for each of its calls that was in flight, or answered within the commit cycle, when
    its process was hit. Processes that ended by themselves count as hit. Lines with garbled answers are left out: how
    often they are called depends on the answers that other lines get meanwhile.
    """
    hits = [*scene.hits, *scene.house.deaths, *scene.house.model.poisoned]
    by_marker = scene.house.model.ledger.by_marker()
    check = CallCheck()
    told: list[str] = []
    for batch in scene.batches:
        for line in (each for each in batch.lines if each.kind != GARBLED):
            calls = by_marker.get(line.marker, [])
            repeated = max(len(calls) - 1, 0)
            excused = sum(any(hit.excuses(call) for hit in hits) for call in calls)
            check.calls += len(calls)
            check.repeated += repeated
            check.allowed += excused
            if repeated > excused:
                told.append(f"{batch.name} {line.marker}: {_told(calls, hits)}")
    check.allowed += scene.copied_lines
    if len(told) > scene.copied_lines:
        check.violations.append(f"{len(told)} lines were called again without need: {'; '.join(told[:_TOLD])}")
    return check


def count_in_flight(scene: Scene) -> int:
    """Return how many calls were open in workers that were killed, at that instant."""
    calls = scene.house.model.ledger.all()
    return sum(call.pid == pid and call.was_open(at) for pid, at in scene.kills for call in calls)


def _told(calls: list[Call], hits: list[Hit]) -> str:
    start = calls[0].opened_at
    spans = [
        f"pid {call.pid} {call.opened_at - start:+.2f}…"
        f"{'open' if call.ended_at is None else f'{call.ended_at - start:+.2f}'}{' broken' if call.is_broken else ''}"
        for call in calls
    ]
    called = {call.pid for call in calls}
    shown = [f"pid {hit.pid} {hit.since - start:+.2f}…{hit.until - start:+.2f}" for hit in hits if hit.pid in called]
    return f"calls {spans}, hits of these {shown}"


def check_blobs(scene: Scene) -> list[str]:
    """Return blobs that nobody owns; those that a crash left are counted, and forgotten for later rounds."""
    house = scene.house
    deadline = time.monotonic() + _BLOBS_GONE_WITHIN_S
    while True:
        orphans = house.storage.keys() - house.crumbs - _owned(house)
        if not orphans or scene.has_crumbs or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    house.crumbs |= orphans
    if not orphans:
        return []
    if scene.has_crumbs or house.deaths:
        scene.notes.append(f"{len(orphans)} blobs left for the sweep of a day later")
        return []
    return [f"{len(orphans)} blobs that nobody owns: {sorted(orphans)[:_TOLD]}"]


def _owned(house: Any) -> set[str]:
    files = {row[0] for row in house.rows("SELECT blob FROM files")}
    plans = house.rows(
        "SELECT plan_blob FROM batches WHERE plan_blob IS NOT NULL"
        " AND status NOT IN ('completed', 'failed', 'cancelled', 'expired')"
    )
    return files | {row[0] for row in plans}
