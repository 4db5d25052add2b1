from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.domain.batch import Batch
from app.domain.errors import Conflict, InvalidRequest, NotFound, StateConflict, Unavailable
from app.domain.file import File
from app.domain.lifecycle import CANCEL_ACKNOWLEDGED, TERMINAL, TRANSITIONS, Event, Status
from app.services.batches import BatchRequest, BatchService
from app.services.ports import Claim
from tests.fakes.broker import RecordingQueue
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.outside import FakeClock
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore

TENANT = "tenant"


class World:
    def __init__(self, store: type[MemoryBatchStore] = MemoryBatchStore) -> None:
        self.clock = FakeClock()
        self.database = MemoryDatabase()
        self.file_store = MemoryFileStore(self.database)
        self.batch_store = store(self.database)
        self.queue = RecordingQueue()
        self.idempotency = MemoryIdempotencyStore(self.database)
        self.batches = BatchService(
            self.batch_store,
            self.file_store,
            self.queue,
            self.clock,
            self.idempotency,
            endpoints=["/v1/chat/completions", "/v1/embeddings"],
            windows=["24h", "90m"],
        )
        self.file_store.add(self.file("file-in"))

    def file(self, file_id: str, purpose: str = "batch", tenant: str = TENANT) -> File:
        return File(file_id, tenant, purpose, "in.jsonl", 3, f"files/{file_id}", self.clock.now())

    def create(self, key: str | None = None, **changes: Any) -> Batch:
        request = BatchRequest("file-in", "/v1/embeddings", "24h")
        return self.batches.create(TENANT, replace(request, **changes), idempotency_key=key)

    def fail(self) -> None:
        raise Unavailable("The database does not answer.")

    def create_in(self, status: Status) -> Batch:
        batch = self.create()
        row = self.database.batches[batch.id]
        row.batch = replace(batch, status=status)
        return row.batch


class LateStore(MemoryBatchStore):
    """A store that does something else between the look at a key and the row of its batch."""

    overtake: Callable[[], object] | None = None

    def add(self, batch: Batch, *, input_at: float | None = None, claim: Claim | None = None) -> None:
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            overtake()
        super().add(batch, input_at=input_at, claim=claim)


@pytest.fixture
def world() -> World:
    return World()


def test_a_new_batch_pins_its_input_and_is_sent_to_validation(world: World) -> None:
    batch = world.create(metadata={"a": "b"}, output_lifetime_s=3_600)

    assert world.batches.get(TENANT, batch.id) == batch
    assert (batch.status, batch.input_blob) == (Status.VALIDATING, "files/file-in")
    assert (batch.metadata, batch.output_lifetime_s) == ({"a": "b"}, 3_600)
    assert world.queue.validated == [batch.id]


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86_400), ("90m", 5_400)])
def test_a_batch_expires_when_its_window_has_elapsed(world: World, window: str, seconds: int) -> None:
    assert world.create(completion_window=window).expires_at == world.clock.now() + seconds


def test_a_queue_that_is_down_does_not_undo_the_batch(world: World) -> None:
    world.queue.fail()

    batch = world.create()

    assert world.batches.get(TENANT, batch.id) == batch


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"endpoint": "/v1/x"}, "endpoint", "'/v1/chat/completions', '/v1/embeddings'"),
        ({"completion_window": "48h"}, "completion_window", "completion_window are: '24h', '90m'"),
        ({"metadata": {"tags": 1}}, "metadata.tags", "expected a string"),
        ({"metadata": {"k": "\ud800"}}, "metadata.k", "surrogate"),
        ({"metadata": {"\x00": "v"}}, "metadata", "NUL"),
        ({"metadata": dict.fromkeys("abcdefghijklmnopq", "v")}, "metadata", "17 pairs"),
    ],
)
def test_a_value_that_is_not_supported_is_refused(world: World, changes: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        world.create(**changes)

    assert refused.value.param == param
    assert not world.database.batches


def test_metadata_may_be_as_large_as_its_limits(world: World) -> None:
    metadata = {f"{n:064}": "v" * 512 for n in range(16)}

    assert world.create(metadata=metadata).metadata == metadata


@pytest.mark.parametrize("file_id", ["file-no", "file-theirs", "", "file-\x00"])
def test_an_input_file_that_is_not_there_is_not_found(world: World, file_id: str) -> None:
    world.file_store.add(world.file("file-theirs", tenant="other"))

    with pytest.raises(NotFound) as refused:
        world.create(input_file_id=file_id)

    assert refused.value.param == "input_file_id"


def test_an_input_file_with_another_purpose_is_refused(world: World) -> None:
    world.file_store.add(world.file("file-seen", purpose="vision"))

    with pytest.raises(InvalidRequest, match="'vision'"):
        world.create(input_file_id="file-seen")


def test_the_same_request_with_the_same_key_is_the_same_batch(world: World) -> None:
    first, again = world.create("k"), world.create("k")

    assert again == first
    assert world.queue.validated == [first.id]


def test_another_request_with_the_same_key_is_a_conflict(world: World) -> None:
    world.create("k")

    with pytest.raises(Conflict):
        world.create("k", completion_window="90m")


def test_a_key_whose_request_was_refused_may_be_used_again(world: World) -> None:
    with pytest.raises(NotFound):
        world.create("k", input_file_id="file-later")
    world.file_store.add(world.file("file-later"))

    assert world.create("k", input_file_id="file-later").input_file_id == "file-later"


def test_a_key_that_made_a_file_never_makes_a_batch(world: World) -> None:
    world.file_store.add(world.file("file-keyed"), Claim("k", "print of a file"))

    for _ in range(2):
        world.clock.advance(86_000)
        with pytest.raises(Conflict):
            world.create("k")

    assert not world.database.batches


def test_a_create_that_was_overtaken_by_its_twin_answers_with_the_twins_batch() -> None:
    world = World(LateStore)
    store = world.batch_store
    assert isinstance(store, LateStore)
    store.overtake = lambda: world.create("k")

    answered = world.create("k")

    assert list(world.database.batches) == [answered.id]
    assert world.queue.validated == [answered.id]


def test_a_retry_after_an_outage_makes_the_batch_at_once() -> None:
    world = World(LateStore)
    store = world.batch_store
    assert isinstance(store, LateStore)
    store.overtake = world.fail
    with pytest.raises(Unavailable):
        world.create("k")

    made = world.create("k")

    assert list(world.database.batches) == [made.id]


@pytest.mark.parametrize(
    "status", [status for status, event in TRANSITIONS if event is Event.CANCEL_REQUESTED], ids=str
)
def test_a_batch_that_runs_is_cancelled_and_sent_no_more_of(world: World, status: Status) -> None:
    batch = world.create_in(status)

    cancelled = world.batches.cancel(TENANT, batch.id)

    assert (cancelled.status, cancelled.cancelling_at) == (Status.CANCELLING, world.clock.now())
    assert world.queue.closed == [batch.id]


@pytest.mark.parametrize("status", sorted(CANCEL_ACKNOWLEDGED))
def test_a_second_cancel_changes_nothing(world: World, status: Status) -> None:
    batch = world.create_in(status)

    assert world.batches.cancel(TENANT, batch.id) == batch
    assert world.queue.closed == []


@pytest.mark.parametrize("status", sorted(TERMINAL - CANCEL_ACKNOWLEDGED))
def test_a_batch_that_has_ended_cant_be_cancelled(world: World, status: Status) -> None:
    batch = world.create_in(status)

    with pytest.raises(Conflict, match=f"Cannot cancel a batch with status '{status}'."):
        world.batches.cancel(TENANT, batch.id)


def test_a_batch_past_its_window_cant_be_cancelled(world: World) -> None:
    batch = world.create_in(Status.EXPIRING)

    with pytest.raises(Conflict, match="window has elapsed"):
        world.batches.cancel(TENANT, batch.id)


def test_a_cancel_stands_when_the_queue_is_down(world: World) -> None:
    batch = world.create()
    world.queue.fail()

    assert world.batches.cancel(TENANT, batch.id).status is Status.CANCELLING


def test_of_two_cancels_at_once_both_are_acknowledged() -> None:
    class SecondIsFaster(MemoryBatchStore):
        def advance(self, batch_id: str, event: Event, now: float) -> Batch:
            super().advance(batch_id, event, now)
            raise StateConflict("Somebody else was first.")

    world = World(SecondIsFaster)

    assert world.batches.cancel(TENANT, world.create().id).status is Status.CANCELLING


@pytest.mark.parametrize("batch_id", ["batch_no", "", "file-in", "batch_\x00", "batch_1\n"])
def test_a_batch_that_is_not_there_is_not_found(world: World, batch_id: str) -> None:
    for use in (world.batches.get, world.batches.cancel):
        with pytest.raises(NotFound, match="No batch found with id"):
            use(TENANT, batch_id)
    with pytest.raises(NotFound):
        world.batches.page(TENANT, after=batch_id, limit=1)


def test_another_tenants_batch_is_not_found(world: World) -> None:
    batch = world.create()

    for use in (world.batches.get, world.batches.cancel):
        with pytest.raises(NotFound):
            use("other", batch.id)
    assert world.batches.page("other", after=None, limit=5).items == []
    assert world.batches.get(TENANT, batch.id).status is Status.VALIDATING


def test_a_page_says_whether_more_follow(world: World) -> None:
    for _ in range(2):
        world.create()

    whole, part = (world.batches.page(TENANT, after=None, limit=limit) for limit in (2, 1))

    assert (len(whole.items), whole.has_more) == (2, False)
    assert (len(part.items), part.has_more) == (1, True)
