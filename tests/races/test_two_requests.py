"""A caller sends one request twice, with one Idempotency-Key: one object is made, and both answers have it."""

from dataclasses import replace
from functools import partial

from app.domain.errors import KeyTaken
from app.domain.file import File
from app.services.files import FileService
from app.services.ports import Claim
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, at_once, meanwhile
from tests.races.sides import NOW, TENANT, Side, request_of

CLAIM = Claim("key", "print")


def file(number: int) -> File:
    return File(f"file-{number}", TENANT, "batch", "in.jsonl", 0, f"files/file-{number}", NOW)


def add(side: Side, number: int) -> str:
    try:
        side.files.add(file(number), CLAIM)
    except KeyTaken:
        return "taken"
    return "stored"


def test_of_two_that_store_an_object_with_one_key_the_second_waits_and_stores_nothing(one: Side, other: Side) -> None:
    first, second, has_waited = meanwhile(one, partial(add, one, 1), COMMIT, other, partial(add, other, 2))

    assert has_waited
    assert (first, second) == ("stored", "taken")
    assert one.files.get(TENANT, "file-2", NOW) is None


def test_fifty_creates_at_once_with_one_key_make_one_batch_and_all_answer_with_it(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    request = request_of(sides[0].upload())

    def create(side: Side) -> str:
        return side.creation().create(TENANT, request, idempotency_key="key").id

    made = at_once([partial(create, sides[number % len(sides)]) for number in range(50)])

    stored = sides[0].batches.page(TENANT, after=None, limit=9)
    assert [batch.id for batch in stored] == [*{*made}]


def test_twenty_uploads_at_once_with_one_key_make_one_file_and_keep_one_files_bytes(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]

    def upload(side: Side) -> str:
        service = FileService(side.files, side.blobs, side.clock, side.idempotency)
        begun = service.begin(is_hashed=True)
        begun.write(b"{}")
        return service.create(TENANT, begun, purpose="batch", idempotency_key="key").id

    made = at_once([partial(upload, sides[number % len(sides)]) for number in range(20)])

    page = sides[0].files.page(TENANT, NOW, purpose=None, after=None, limit=9, newest_first=True)
    assert [stored.id for stored in page] == [*{*made}]
    assert list(sides[0].blobs.stored) == [page[0].blob]


def test_of_a_file_and_a_batch_at_once_with_one_key_one_is_made(open_side: OpenSide) -> None:
    one, other = open_side(), open_side()
    request = request_of(one.upload())

    def create() -> str:
        try:
            return other.creation().create(TENANT, request, idempotency_key="key").id
        except Exception as fault:
            return type(fault).__name__

    outcomes = at_once([partial(add, one, 9), create])

    has_batch = bool(one.batches.page(TENANT, after=None, limit=9))
    has_file = one.files.get(TENANT, "file-9", NOW) is not None
    assert has_batch != has_file
    assert set(outcomes) & {"taken", "Conflict"}


def test_another_request_with_the_same_key_at_once_is_a_conflict_and_no_error_of_ours(open_side: OpenSide) -> None:
    one, other = open_side(), open_side()
    request = request_of(one.upload())

    def create(side: Side, window: str, key: str) -> str:
        try:
            asked = replace(request, metadata={"which": window})
            return side.creation().create(TENANT, asked, idempotency_key=key).id
        except Exception as fault:
            return type(fault).__name__

    for number in range(10):
        made = at_once([partial(create, one, "first", f"k{number}"), partial(create, other, "second", f"k{number}")])
        assert sorted(name.partition("_")[0] for name in made) == ["Conflict", "batch"]
