"""A caller deletes the input while a batch is made of it: the batch runs with all of it, or says that it is gone."""

from functools import partial

from app.domain.errors import NotFound, StateConflict
from app.domain.lifecycle import Status
from tests.races.interleaving import Stop, Stopping, at_once, while_standing
from tests.races.sides import NOW, TENANT, Side, request_of

ROUNDS = 5


def delete_and_sweep(side: Side, file_id: str = "file-1") -> None:
    """Delete a file as its caller does, and remove what may be, as upkeep does."""
    side.files.mark_deleted(TENANT, file_id, NOW)
    for file in side.files.removable(NOW, 10):
        side.blobs.delete(file.blob)
        side.files.remove(file.id)


def test_an_input_deleted_before_its_batch_is_stored_is_said_to_be_gone(one: Side, other: Side) -> None:
    file = one.upload()
    stop = Stop()
    service = one.creation()
    service._batches = Stopping(one.batches, "add", stop)

    batch = while_standing(stop, lambda: service.create(TENANT, request_of(file)), lambda: delete_and_sweep(other))

    assert one.validation().validate(batch.id) is False
    assert one.batch(batch.id).status is Status.FAILED
    assert "Cannot find file" in one.batch(batch.id).errors[0].message
    assert file.blob not in one.blobs.stored


def test_an_input_deleted_before_its_batch_is_validated_is_said_to_be_gone(one: Side, other: Side) -> None:
    file = one.upload()
    batch = one.create(file)

    delete_and_sweep(other)

    # A batch that has not ended reads it: the bytes are kept, though callers see the file no more.
    assert file.blob in one.blobs.stored
    assert one.validation().validate(batch.id) is False
    assert one.batch(batch.id).status is Status.FAILED
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


def test_at_any_moment_the_batch_runs_or_says_why_not(one: Side, other: Side) -> None:
    for number in range(ROUNDS):
        file = one.upload(f"file-{number}")

        def create_and_validate(side: Side = one, request: object = request_of(file)) -> object:
            try:
                batch = side.creation().create(TENANT, request)
            except NotFound as refusal:
                return refusal
            side.validation().validate(batch.id)
            return side.batch(batch.id)

        outcome, _ = at_once([create_and_validate, partial(delete_and_sweep, other, file.id)])

        assert not isinstance(outcome, StateConflict)
        if not isinstance(outcome, NotFound):
            is_kept = file.blob in one.blobs.stored
            assert (outcome.status, is_kept) in [
                (Status.IN_PROGRESS, True),
                (Status.FAILED, True),
                (Status.FAILED, False),
            ]
