"""What ended batches must leave behind nowhere: rows of results, and keys and messages in the broker."""

import json
import time
from itertools import chain
from typing import Any

from app.adapters.queue import LINES_QUEUE, lines_queue
from app.domain import ids
from tests.chaos.house import UPSTREAMS, House

# The sweep deletes results every 10 s.
RESULTS_GONE_WITHIN_S = 60.0
# Of what dead workers had taken: the product's own sweep of it looks for a minute first.
BROKER_CLEAN_WITHIN_S = 150.0
_LOOK_EVERY_S = 1.0
_TOLD = 5


def check_results(house: House) -> list[str]:
    """Return what is wrong with the rows of results; they go within some seconds."""
    return _await_none(lambda: _batches_with_results(house), RESULTS_GONE_WITHIN_S)


def check_old_results(house: House) -> list[str]:
    """Do the same, and wait only where batches that ended a while ago still have some."""
    return check_results(house) if _batches_with_results(house, RESULTS_GONE_WITHIN_S) else []


def check_broker(house: House, batch_ids: list[str]) -> list[str]:
    """Return what the broker still holds of batches that have ended."""
    return _await_none(lambda: _broker_entries(house, batch_ids), BROKER_CLEAN_WITHIN_S)


def _await_none(look: Any, within_s: float) -> list[str]:
    deadline = time.monotonic() + within_s
    while found := look():
        if time.monotonic() > deadline:
            return [f"after {within_s:g} s there are still {len(found)}: {sorted(found)[:_TOLD]}"]
        time.sleep(_LOOK_EVERY_S)
    return []


def _batches_with_results(house: House, ended_before_s: float = 0.0) -> list[str]:
    rows = house.rows(
        "SELECT DISTINCT batch_id FROM segments WHERE batch_id IN (SELECT id FROM batches"
        " WHERE status IN ('completed', 'cancelled', 'expired')"
        " AND COALESCE(completed_at, cancelled_at, expired_at) < ?)",
        time.time() - ended_before_s,
    )
    return [f"results of {row[0]}" for row in rows]


def _broker_entries(house: House, batch_ids: list[str]) -> list[str]:
    broker: Any = house.redis()
    marks = {batch_id: batch_id for batch_id in batch_ids} | {
        ids.group_id(batch_id): batch_id for batch_id in batch_ids
    }
    found = [f"key {key}" for key in map(bytes.decode, broker.scan_iter()) if any(mark in key for mark in marks)]
    for tag, entry in broker.hgetall("unacked").items():
        group = json.loads(entry)[0]["headers"].get("group")
        if group in marks:
            found.append(f"unacked {tag.decode()} of {marks[group]}")
    queues = (LINES_QUEUE, *map(lines_queue, UPSTREAMS))
    for message in chain.from_iterable(broker.lrange(queue, 0, -1) for queue in queues):
        group = json.loads(message)["headers"].get("group")
        if group in marks:
            found.append(f"message of {marks[group]}")
    return found
