"""Finalizing a batch whose lines were sent in another order than that of the file."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from app.domain.plan import pack_entry, unpack_entries
from app.domain.result import Result, answered
from tests.fakes.stores import break_leases
from tests.unit.services.pipeline_house import NOW, PipelineHouse, result_of

TOTAL = 1_300


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def add_shuffled(house: PipelineHouse) -> list[int]:
    """Add a running batch; return the line of the file, 0-based, at each position."""
    house.add_running(total=TOTAL)
    entries = list(unpack_entries(house.blobs.stored["plans/batch_1"]))
    order = list(range(TOTAL))
    random.Random(1).shuffle(order)
    house.blobs.put("plans/batch_1", b"".join(pack_entry(entries[line]) for line in order))
    return order


def answer(position: int, line: int, *, ok: bool = True) -> Result:
    payload = answered("batch_1", position, f"id-{line}", 200 if ok else 400, "req", b"{}")
    return result_of(position, ok=ok)._replace(payload=payload)


def custom_ids(house: PipelineHouse, file_id: str | None) -> list[str]:
    assert file_id is not None
    data = house.blobs.stored[house.database.files[file_id].file.blob]
    return [json.loads(line)["custom_id"] for line in data.splitlines()]


def test_both_files_are_in_the_order_of_the_input(house: PipelineHouse) -> None:
    order = add_shuffled(house)
    house.results.record([answer(position, line, ok=line % 3 > 0) for position, line in enumerate(order)])

    house.finalization.finalize("batch_1")

    batch = house.batch()
    assert (batch.status, batch.completed, batch.failed) == (Status.COMPLETED, 866, 434)
    assert custom_ids(house, batch.output_file_id) == [f"id-{line}" for line in range(TOTAL) if line % 3 > 0]
    assert custom_ids(house, batch.error_file_id) == [f"id-{line}" for line in range(TOTAL) if line % 3 == 0]
    assert batch.usage is not None
    assert batch.usage.input_tokens == 3 * TOTAL


@pytest.mark.parametrize(
    ("event", "ending"),
    [(Event.CANCEL_REQUESTED, Status.CANCELLED), (Event.WINDOW_ELAPSED, Status.EXPIRED)],
)
def test_lines_that_never_ran_are_in_their_place_of_the_input(
    house: PipelineHouse, event: Event, ending: Status
) -> None:
    order = add_shuffled(house)
    answers = [answer(position, line, ok=line % 3 > 0) for position, line in enumerate(order[:400])]
    house.results.record(answers)
    house.batches.advance("batch_1", event, NOW)

    house.finalization.finalize("batch_1")

    succeeded = sorted(line for line in order[:400] if line % 3 > 0)
    batch = house.batch()
    assert (batch.status, batch.completed) == (ending, len(succeeded))
    assert custom_ids(house, batch.output_file_id) == [f"id-{line}" for line in succeeded]
    assert custom_ids(house, batch.error_file_id) == [f"id-{line}" for line in range(TOTAL) if line not in succeeded]


def test_a_cancelled_batch_of_which_nothing_ran_has_all_lines_in_order(house: PipelineHouse) -> None:
    add_shuffled(house)
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    house.finalization.finalize("batch_1")

    assert custom_ids(house, house.batch().error_file_id) == [f"id-{line}" for line in range(TOTAL)]


def test_a_lost_lease_is_noticed_in_any_order(house: PipelineHouse) -> None:
    order = add_shuffled(house)
    house.results.record([answer(position, line) for position, line in enumerate(order)])

    with pytest.raises(StateConflict):
        house.finalization_over(_Thief(house)).finalize("batch_1")

    assert house.database.files == {}
    assert set(house.blobs.stored) == {"files/batch_1", "plans/batch_1"}


class _Thief:
    """Results of the house; while they are read another takes over the batch."""

    def __init__(self, house: PipelineHouse) -> None:
        self._house = house

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[Any]:
        for count, row in enumerate(self._house.results.read_in(batch_id, order)):
            if count == 100:
                self._house.clock.advance(60)
                break_leases(self._house.batches)
                self._house.batches.lease(batch_id, "another")
            yield row
