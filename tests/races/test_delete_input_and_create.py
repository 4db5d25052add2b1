"""An input is deleted, or expires, while a batch is made of it: the batch has its bytes, or is never made."""

from collections.abc import Callable
from functools import partial

import pytest

from app.domain.batch import Batch
from app.domain.errors import NotFound
from app.domain.file import File
from app.domain.lifecycle import Status
from tests.races.interleaving import COMMIT, Stop, Stopping, at_once, meanwhile, while_standing
from tests.races.sides import NOW, TENANT, Side, request_of

ROUNDS = 5
AHEAD_S = 60.0


def delete_and_sweep(side: Side, file_id: str = "file-1") -> None:
    """Delete a file as its caller does, and remove what may be, as upkeep does."""
    side.files.mark_deleted(TENANT, file_id, NOW)
    for file in side.files.removable(NOW, 10):
        side.blobs.delete(file.blob)
        side.files.remove(file.id)


def expire_and_sweep(side: Side) -> None:
    """Remove what has expired by a clock that is ahead of the one that creates."""
    for file in side.files.removable(NOW + AHEAD_S, 10):
        side.blobs.delete(file.blob)
        side.files.remove(file.id)


def create_if_there(side: Side, file: File) -> Batch | NotFound:
    try:
        return side.create(file)
    except NotFound as refusal:
        return refusal


def assert_runs(side: Side, batch_id: str, blob: str) -> None:
    assert blob in side.blobs.stored
    assert side.validation().validate(batch_id) is True
    assert side.batch(batch_id).status is Status.IN_PROGRESS


def test_of_an_input_deleted_before_its_batch_is_stored_no_batch_is_made(one: Side, other: Side) -> None:
    file = one.upload()
    stop = Stop()
    service = one.creation()
    service._batches = Stopping(one.batches, "add", stop)

    with pytest.raises(NotFound) as caught:
        while_standing(stop, lambda: service.create(TENANT, request_of(file)), lambda: delete_and_sweep(other))

    assert caught.value.param == "input_file_id"
    assert file.blob not in one.blobs.stored
    assert one.batches.page(TENANT, after=None, limit=10) == []


@pytest.mark.parametrize("sweep", [delete_and_sweep, expire_and_sweep], ids=["deleted", "expired"])
@pytest.mark.parametrize("at", ["INSERT INTO batches", COMMIT])
def test_an_input_that_goes_while_its_batch_is_stored_waits_for_the_batch(
    one: Side, other: Side, sweep: Callable[[Side], None], at: str
) -> None:
    file = one.upload(expires_at=NOW + AHEAD_S)

    outcome = meanwhile(one, lambda: one.create(file), at, other, partial(sweep, other))

    assert outcome.has_waited
    assert_runs(one, outcome.first.id, file.blob)


def test_an_input_deleted_before_its_batch_is_validated_is_kept_until_the_batch_ends(one: Side, other: Side) -> None:
    file = one.upload()
    batch = one.create(file)

    delete_and_sweep(other)

    assert_runs(one, batch.id, file.blob)
    one.cancel(batch.id)
    assert one.finalization().finalize(batch.id) is True
    delete_and_sweep(other)
    assert file.blob not in one.blobs.stored


def test_an_input_deleted_while_it_is_validated_is_kept_until_the_batch_ends(one: Side, other: Side) -> None:
    file = one.upload()
    batch = one.create(file)
    stop = Stop()
    validation = one.validation(Stopping(one.batches, "accept", stop))

    is_accepted = while_standing(stop, lambda: validation.validate(batch.id), lambda: delete_and_sweep(other))

    assert is_accepted is True
    delete_and_sweep(other)
    assert file.blob in one.blobs.stored
    one.cancel(batch.id)
    assert one.finalization().finalize(batch.id) is True
    assert one.lines_of(one.batch(batch.id).error_file_id) == ["id-0", "id-1", "id-2"]
    delete_and_sweep(other)
    assert file.blob not in one.blobs.stored


def test_at_any_moment_the_batch_has_its_bytes_or_was_never_made(one: Side, other: Side) -> None:
    for number in range(ROUNDS):
        file = one.upload(f"file-{number}")

        calls = [partial(create_if_there, one, file), partial(delete_and_sweep, other, file.id)]
        outcome, _ = at_once(calls)

        if isinstance(outcome, Batch):
            assert_runs(one, outcome.id, file.blob)
        else:
            assert isinstance(outcome, NotFound)
