"""A commit whose acknowledgement is lost may have happened: nothing that it may need is deleted."""

import pytest

from app.domain.batch import Batch
from app.domain.errors import Unavailable
from app.domain.lifecycle import Status
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Planned, Written
from app.services.validation import ValidationService
from tests.fakes.stores import MemoryBatchStore
from tests.unit.services.pipeline_house import PipelineHouse
from tests.unit.services.validation_house import House, request


class DeafStore(MemoryBatchStore):
    """Commits, and does not hear of it."""

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        super().finish(batch_id, written, token, now)
        raise Unavailable("The connection was lost.")

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        super().accept(batch_id, planned, now)
        raise Unavailable("The connection was lost.")


def test_files_of_a_batch_that_ended_unheard_stay() -> None:
    house = PipelineHouse()
    house.add_running(total=2)
    house.record(0)
    house.record(1, ok=False)
    house.batches = DeafStore(house.database)

    with pytest.raises(Unavailable):
        house.finalization_over(house.results).finalize("batch_1")

    assert house.batch().status is Status.COMPLETED
    assert {row.file.blob for row in house.database.files.values()} <= house.blobs.stored.keys()


def test_the_plan_of_a_batch_that_was_accepted_unheard_stays() -> None:
    house = House()
    house.arrange(request("a"))
    database = house.batches._db
    deaf = ValidationService(
        DeafStore(database),
        house.blobs,
        house.clock,
        route=lambda model, endpoint: DEFAULT_UPSTREAM,
        pinned_lines_per_task=None,
    )

    with pytest.raises(Unavailable):
        deaf.validate("batch_1")

    assert house.batch.status is Status.IN_PROGRESS
    assert house.batch.plan_blob in house.blobs.stored
