from collections.abc import Callable

import pytest

from app.domain.errors import BlobMissing, Conflict, InvalidRequest, NotFound, StorageFull, TooLarge, Unavailable
from app.domain.file import File
from app.domain.limits import MAX_BATCH_FILE_BYTES, MAX_FILE_LIFETIME_S, MIB
from app.services.files import FileService, Upload, label
from app.services.ports import Claim
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.stores import MemoryFileStore

TENANT = "tenant"


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.database = MemoryDatabase()
        self.store = MemoryFileStore(self.database)
        self.blobs = MemoryBlobs(self.clock)
        self.idempotency = MemoryIdempotencyStore(self.database)
        self.files = FileService(self.store, self.blobs, self.clock, self.idempotency)

    def upload(self, data: bytes = b"{}\n", *, is_hashed: bool = False) -> Upload:
        upload = self.files.begin(is_hashed=is_hashed)
        upload.write(data)
        return upload

    def create(
        self, data: bytes = b"{}\n", purpose: str = "batch", key: str | None = None, tenant: str = TENANT
    ) -> File:
        upload = self.upload(data, is_hashed=key is not None)
        return self.files.create(tenant, upload, purpose=purpose, filename="in.jsonl", idempotency_key=key)

    @property
    def is_empty(self) -> bool:
        listed = self.files.page(TENANT, purpose=None, after=None, limit=10, newest_first=True)
        return not (listed.items or self.blobs.stored or self.blobs.unfinished)


class UnwritableStore(MemoryFileStore):
    def add(self, file: File, claim: Claim | None = None) -> None:
        raise Unavailable("The database does not answer.")


class UnreadableStore(MemoryFileStore):
    def get(self, tenant_id: str, file_id: str, now: float) -> File | None:
        raise AssertionError(f"The store was asked for {file_id!r}.")


@pytest.fixture
def world() -> World:
    return World()


def test_an_upload_becomes_a_file(world: World) -> None:
    file = world.create(b"abc")

    assert world.files.get(TENANT, file.id) == file
    assert (file.bytes, world.blobs.stored[file.blob]) == (3, b"abc")
    assert not world.blobs.unfinished


def test_a_batch_file_lives_for_thirty_days_and_any_other_for_good(world: World) -> None:
    batch, vision = world.create(), world.create(purpose="vision")

    assert batch.expires_at == world.clock.now() + MAX_FILE_LIFETIME_S
    assert vision.expires_at is None


def test_a_file_past_its_lifetime_is_not_found(world: World) -> None:
    file = world.files.create(TENANT, world.upload(), purpose="batch", lifetime_s=3_600)

    world.clock.advance(3_600)

    with pytest.raises(NotFound):
        world.files.get(TENANT, file.id)


def test_a_purpose_that_nobody_knows_discards_the_upload(world: World) -> None:
    with pytest.raises(InvalidRequest, match="'batch'") as refused:
        world.create(purpose="batch_output")

    assert refused.value.param == "purpose"
    assert world.is_empty


def test_a_file_over_the_limit_of_its_purpose_discards_the_upload(world: World) -> None:
    upload = world.files.begin()
    piece = bytes(8 * MIB)
    for _ in range(MAX_BATCH_FILE_BYTES // len(piece)):
        upload.write(piece)
    upload.write(b"x")

    with pytest.raises(TooLarge, match="200 MiB"):
        world.files.create(TENANT, upload, purpose="batch")

    assert world.is_empty


def test_bytes_stay_where_it_is_open_whether_their_row_was_stored(world: World) -> None:
    files = FileService(UnwritableStore(), world.blobs, world.clock, world.idempotency)
    upload = files.begin(is_hashed=True)

    with pytest.raises(Unavailable):
        files.create(TENANT, upload, purpose="batch", idempotency_key="k")

    assert list(world.blobs.stored) == [upload.blob]


def test_a_retry_after_an_outage_makes_the_file_at_once(world: World) -> None:
    failing = FileService(UnwritableStore(), world.blobs, world.clock, world.idempotency)
    with pytest.raises(Unavailable):
        failing.create(TENANT, _empty_upload(failing), purpose="batch", idempotency_key="k")

    made = world.files.create(TENANT, _empty_upload(world.files), purpose="batch", idempotency_key="k")

    assert world.files.get(TENANT, made.id) == made


class LateStore(MemoryFileStore):
    """A store whose next request is overtaken by an equal one between the look at the key and its own row."""

    overtake: Callable[[], object] | None = None

    def add(self, file: File, claim: Claim | None = None) -> None:
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            overtake()
        super().add(file, claim)


def test_an_upload_that_was_overtaken_by_its_twin_answers_with_the_twins_file_and_leaves_no_bytes(
    world: World,
) -> None:
    store = LateStore(world.database)
    twin: list[File] = []
    store.overtake = lambda: twin.append(world.create(b"abc", key="k"))
    late = FileService(store, world.blobs, world.clock, world.idempotency)
    upload = late.begin(is_hashed=True)
    upload.write(b"abc")

    answered = late.create(TENANT, upload, purpose="batch", filename="in.jsonl", idempotency_key="k")

    assert [answered] == twin
    assert list(world.blobs.stored) == [answered.blob]
    assert not world.blobs.unfinished


def _empty_upload(files: FileService) -> Upload:
    return files.begin(is_hashed=True)


def test_a_key_whose_request_failed_may_be_used_again(world: World) -> None:
    world.blobs.capacity = 3
    first = world.upload(b"abc", is_hashed=True)
    world.blobs.capacity = 0
    with pytest.raises(StorageFull):
        first.write(b"d")
    first.discard()
    with pytest.raises(InvalidRequest):
        world.files.create(TENANT, world.upload(b"", is_hashed=True), purpose="none", idempotency_key="k")
    world.blobs.capacity = None

    assert world.create(b"abcd", key="k").bytes == 4


def test_the_same_request_with_the_same_key_is_the_same_file(world: World) -> None:
    first, again = world.create(b"abc", key="k"), world.create(b"abc", key="k")

    assert again == first
    assert len(world.blobs.stored) == 1
    assert not world.blobs.unfinished


def test_another_content_with_the_same_key_is_a_conflict(world: World) -> None:
    world.create(b"abc", key="k")

    with pytest.raises(Conflict):
        world.create(b"abd", key="k")

    assert len(world.blobs.stored) == 1
    assert not world.blobs.unfinished


def test_tenants_dont_share_their_keys(world: World) -> None:
    assert world.create(key="k").id != world.create(key="k", tenant="other").id


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_of_no_sensible_length_is_refused(world: World, key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        world.create(key=key)

    assert refused.value.param == "Idempotency-Key"
    assert world.is_empty


def test_a_key_stands_for_its_request_after_the_file_is_deleted(world: World) -> None:
    world.files.delete(TENANT, world.create(key="k").id)

    with pytest.raises(Conflict, match="deleted"):
        world.create(key="k")

    assert world.files.page(TENANT, purpose=None, after=None, limit=9, newest_first=True).items == []


def test_a_deleted_file_is_not_found_but_its_bytes_wait_for_who_reads_them(world: World) -> None:
    file = world.create()

    world.files.delete(TENANT, file.id)

    with pytest.raises(NotFound):
        world.files.get(TENANT, file.id)
    with pytest.raises(NotFound):
        world.files.delete(TENANT, file.id)
    assert file.blob in world.blobs.stored


def test_another_tenants_file_is_not_found(world: World) -> None:
    file = world.create()

    for use in (world.files.get, world.files.delete, world.files.content):
        with pytest.raises(NotFound, match=f"No such File object: {file.id}"):
            use("other", file.id)


@pytest.mark.parametrize("file_id", ["", "file-", "file-\x00", "file-\ud800", "batch_1", "file-a\n"])
def test_what_is_no_id_never_reaches_the_store(world: World, file_id: str) -> None:
    files = FileService(UnreadableStore(), world.blobs, world.clock, world.idempotency)

    with pytest.raises(NotFound):
        files.get(TENANT, file_id)
    with pytest.raises(NotFound):
        files.delete(TENANT, file_id)
    with pytest.raises(NotFound):
        files.page(TENANT, purpose=None, after=file_id, limit=1, newest_first=True)


def test_a_page_says_whether_more_follow(world: World) -> None:
    for _ in range(2):
        world.create()

    whole = world.files.page(TENANT, purpose="batch", after=None, limit=2, newest_first=True)
    part = world.files.page(TENANT, purpose="batch", after=None, limit=1, newest_first=True)

    assert (len(whole.items), whole.has_more) == (2, False)
    assert (len(part.items), part.has_more) == (1, True)


def test_content_is_read_from_any_offset(world: World) -> None:
    content = world.files.content(TENANT, world.create(b"abcdef").id)

    assert content.size == 6
    assert b"".join(content.stream(4)) == b"ef"


def test_content_that_is_lost_is_said_before_anything_is_sent(world: World) -> None:
    file = world.create()
    world.blobs.delete(file.blob)

    with pytest.raises(BlobMissing):
        world.files.content(TENANT, file.id)


def test_content_that_is_cut_short_is_as_good_as_lost(world: World) -> None:
    file = world.create(b"abcdef")
    world.blobs.stored[file.blob] = b"abc"

    with pytest.raises(BlobMissing, match="Of the 6 bytes"):
        world.files.content(TENANT, file.id)


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("in.jsonl", "in.jsonl"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\x00b\r\nc\u202e.jsonl", "abc.jsonl"),
        ("über 東京.jsonl", "über 東京.jsonl"),
        ("\ud800x", "x"),
        ("x" * 300, "x" * 255),
        ("folder/", "upload"),
        ("", "upload"),
    ],
)
def test_a_filename_is_a_label_only(filename: str, shown: str) -> None:
    assert label(filename) == shown
