import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.batch import Batch, LineError
from app.domain.errors import StorageFull
from app.domain.file import File
from app.domain.lifecycle import Event, Status
from app.domain.limits import MAX_LINE_BYTES, MAX_LINE_ERRORS, MAX_LINES, MIB
from app.domain.plan import unpack_entries
from app.services.validation import SourceLine, ValidationService, read_lines
from tests.fakes.database import MemoryDatabase
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore

CHAT = "/v1/chat/completions"


def request(custom_id: object, *, model: str = "small", url: str = CHAT, **body: object) -> bytes:
    given_body = {"model": model, "messages": [], **body}
    return json.dumps({"custom_id": str(custom_id), "method": "POST", "url": url, "body": given_body}).encode()


@dataclass
class House:
    """A validation service over fakes, with one batch that waits for it."""

    pinned: int | None = None
    models: tuple[str, ...] = ("small", "large")
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        database = MemoryDatabase()
        self.batches = MemoryBatchStore(database)
        self.files = MemoryFileStore(database)
        self.blobs = MemoryBlobs(self.clock)
        self.service = ValidationService(
            self.batches,
            self.files,
            self.blobs,
            self.clock,
            serves=self.models.__contains__,
            pinned_lines_per_task=self.pinned,
        )

    def arrange(self, data: bytes, endpoint: str = CHAT) -> None:
        now = self.clock.now()
        self.blobs.put("files/in", data)
        self.files.add(File("file-in", "tenant", "batch", "in.jsonl", len(data), "files/in", now))
        self.batches.add(
            Batch(
                "batch_1", "tenant", endpoint, "file-in", "24h", Status.VALIDATING, now, now + 9, input_blob="files/in"
            )
        )

    @property
    def batch(self) -> Batch:
        batch = self.batches.find("batch_1")
        assert batch is not None
        return batch

    def errors_of(self, data: bytes, endpoint: str = CHAT) -> tuple[LineError, ...]:
        self.arrange(data, endpoint)
        assert self.service.validate("batch_1") is False
        assert self.batch.status is Status.FAILED
        self.assert_nothing_left()
        return self.batch.errors

    def planned_of(self, data: bytes) -> list[bytes]:
        """Return the lines that the plan of an accepted batch leads to."""
        self.arrange(data)
        assert self.service.validate("batch_1") is True
        assert self.batch.plan_blob is not None
        entries = list(unpack_entries(self.blobs.stored[self.batch.plan_blob]))
        assert len(entries) == self.batch.total
        return [self.blobs.read("files/in", entry.offset, entry.length) for entry in entries]

    def assert_nothing_left(self) -> None:
        assert set(self.blobs.stored) <= {"files/in"}
        assert self.blobs.unfinished == set()


@pytest.fixture
def house() -> House:
    return House()


def test_a_good_file_is_accepted_with_its_plan(house: House) -> None:
    lines = [request(number) for number in range(1_500)]

    planned = house.planned_of(b"\n".join(lines) + b"\n")

    assert planned == lines
    assert (house.batch.status, house.batch.total, house.batch.lines_per_task) == (Status.IN_PROGRESS, 1_500, 2)
    assert house.batch.model == "small"
    assert house.blobs.unfinished == set()


def test_the_operators_lines_per_task_is_kept() -> None:
    house = House(pinned=1)

    house.planned_of(b"\n".join(request(number) for number in range(1_500)))

    assert house.batch.lines_per_task == 1


@pytest.mark.parametrize(
    "data",
    [
        b"%b\n%b\n",
        b"%b\n%b",
        b"\xef\xbb\xbf%b\n%b\n",
        b"%b\r\n%b\r\n",
        b"\n\n%b\n  \n\r\n%b\n\n",
        b"\xef\xbb\xbf\r\n%b\r\n%b",
    ],
    ids=["plain", "no final newline", "byte order mark", "CRLF", "blank lines", "mark, CRLF, no final newline"],
)
def test_files_of_every_editor_are_read(house: House, data: bytes) -> None:
    lines = (request("a"), request("b"))

    assert house.planned_of(data % lines) == list(lines)


def test_numbers_count_blank_lines(house: House) -> None:
    errors = house.errors_of(b"\n" + request("a") + b"\r\n \nbroken\n")

    assert [(error.code, error.line) for error in errors] == [("invalid_json_line", 4)]


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\r\n \n", b"\xef\xbb\xbf", b"\n" * (3 * MIB)])
def test_a_file_without_requests_is_empty(house: House, data: bytes) -> None:
    errors = house.errors_of(data)

    assert [(error.code, error.line, error.param) for error in errors] == [("empty_file", None, None)]


def test_every_bad_line_is_reported_with_its_number(house: House) -> None:
    lines = [request("a"), b"x", request("b", stream=True), request("c", url="/v1/other"), request("d", model="none")]

    errors = house.errors_of(b"\n".join([*lines, request("a"), b'{"custom_id":"e"}']))

    assert [(error.line, error.code, error.param) for error in errors] == [
        (2, "invalid_json_line", None),
        (3, "streaming_unsupported", "body.stream"),
        (4, "invalid_url", "url"),
        (5, "model_not_found", "body.model"),
        (6, "duplicate_custom_id", "custom_id"),
        (7, "missing_required_parameter", "method"),
    ]


@pytest.mark.parametrize("bad", [MAX_LINE_ERRORS, MAX_LINE_ERRORS + 1, MAX_LINE_ERRORS + 250])
def test_past_the_cap_a_last_entry_says_how_many_more(house: House, bad: int) -> None:
    errors = house.errors_of(b"x\n" * bad)

    assert [error.line for error in errors[:MAX_LINE_ERRORS]] == list(range(1, MAX_LINE_ERRORS + 1))
    rest = bad - MAX_LINE_ERRORS
    assert [(error.line, error.message.split()[0]) for error in errors[MAX_LINE_ERRORS:]] == (
        [(None, str(rest))] if rest else []
    )


def test_as_many_requests_as_allowed_are_accepted(house: House) -> None:
    assert len(house.planned_of(b"\n".join(request(number) for number in range(MAX_LINES)))) == MAX_LINES


def test_one_request_more_is_one_clear_error(house: House) -> None:
    errors = house.errors_of(b"broken\n" + b"\n".join(request(number) for number in range(MAX_LINES)))

    assert [(error.code, error.line) for error in errors] == [("too_many_tasks", None)]
    assert "50,000" in errors[0].message


def test_a_line_over_the_limit_is_reported_and_the_next_are_read(house: House) -> None:
    errors = house.errors_of(request("a", x="x" * (10 * MIB)) + b"\nbroken\n" + request("b"))

    assert [(error.code, error.line) for error in errors] == [("line_too_long", 1), ("invalid_json_line", 2)]


def test_long_custom_ids_are_told_apart_and_found_again(house: House) -> None:
    errors = house.errors_of(b"\n".join(request("x" * 400 + end) for end in ("a", "b", "a")))

    assert [(error.code, error.line) for error in errors] == [("duplicate_custom_id", 3)]


@pytest.mark.parametrize("model", ["\0", "x" * 10_000])
def test_a_model_name_that_no_database_takes_is_not_found(model: str) -> None:
    house = House(models=(model,))

    errors = house.errors_of(request("a", model=model))

    assert [error.code for error in errors] == ["model_not_found"]


def test_a_batch_of_several_models_has_no_model_of_its_own(house: House) -> None:
    house.planned_of(request("a", model="small") + b"\n" + request("b", model="large"))

    assert house.batch.model is None


def test_embedding_inputs_are_counted_over_the_batch(house: House) -> None:
    many = [request(number, url="/v1/embeddings", input=["x"] * 30_000) for number in range(2)]

    errors = house.errors_of(b"\n".join(many), "/v1/embeddings")

    assert [(error.code, error.line, error.param) for error in errors] == [("invalid_request", None, "body.input")]
    assert "50,000" in errors[0].message


def test_a_deleted_input_file_fails_the_batch(house: House) -> None:
    house.arrange(request("a"))
    house.files.mark_deleted("tenant", "file-in", house.clock.now())

    assert house.service.validate("batch_1") is False

    assert [(error.code, error.param) for error in house.batch.errors] == [("invalid_request", "file_id")]
    assert house.batch.errors[0].message.startswith("Cannot find file file-in, or ")
    house.assert_nothing_left()


def test_a_file_whose_bytes_are_gone_fails_the_batch(house: House) -> None:
    house.arrange(request("a"))
    house.blobs.delete("files/in")

    house.service.validate("batch_1")

    assert house.batch.errors[0].message.startswith("Cannot find file")


@pytest.mark.parametrize("data", [request("a"), b"broken"])
def test_a_batch_cancelled_meanwhile_is_left_alone(house: House, data: bytes) -> None:
    house.arrange(data)

    class CancelledWhileRead(MemoryBlobs):
        def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())
            return house.blobs.stream(key, offset, length)

    blobs = CancelledWhileRead()
    service = ValidationService(
        house.batches, house.files, blobs, house.clock, serves=lambda _: True, pinned_lines_per_task=None
    )

    assert service.validate("batch_1") is False

    assert (house.batch.status, house.batch.errors, house.batch.plan_blob) == (Status.CANCELLING, (), None)
    assert (blobs.stored, blobs.unfinished) == ({}, set())


def test_a_batch_that_is_validated_elsewhere_is_left_alone(house: House) -> None:
    house.arrange(request("a"))
    house.batches.lease("batch_1", "other", house.clock.now(), 60)

    assert house.service.validate("batch_1") is False
    assert house.batch.status is Status.VALIDATING


def test_validating_twice_accepts_once(house: House) -> None:
    house.arrange(request("a"))

    outcomes = [house.service.validate("batch_1") for _ in range(2)]

    assert outcomes == [True, False]
    assert len(house.blobs.stored) == 2


def test_there_is_nothing_to_validate_where_there_is_no_batch(house: House) -> None:
    assert house.service.validate("batch_unknown") is False


class Slow(MemoryBlobs):
    """Takes ten seconds for each piece."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.slow_clock = clock

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        for piece in super().stream(key, offset, length):
            yield piece
            self.slow_clock.advance(10)


def test_the_lease_is_renewed_while_the_file_is_read() -> None:
    house = House()
    slow = Slow(house.clock)
    house.blobs = slow
    house.service = ValidationService(
        house.batches, house.files, slow, house.clock, serves=lambda _: True, pinned_lines_per_task=None
    )

    house.planned_of(b"\n".join(request(number, x="x" * MIB) for number in range(20)))

    assert house.batch.total == 20


def test_a_lost_lease_ends_the_work() -> None:
    house = House()
    house.arrange(request("a") + b"\n" * (2 * MIB))

    class TakenOver(MemoryBlobs):
        def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            for piece in house.blobs.stream(key, offset, length):
                yield piece
                house.clock.advance(100)
                house.batches.lease("batch_1", "other", house.clock.now(), 1_000)

    blobs = TakenOver()
    service = ValidationService(
        house.batches, house.files, blobs, house.clock, serves=lambda _: True, pinned_lines_per_task=None
    )

    assert service.validate("batch_1") is False
    assert house.batch.status is Status.VALIDATING
    assert (blobs.stored, blobs.unfinished) == ({}, set())


def test_without_room_for_the_plan_the_batch_waits_to_be_tried_again(house: House) -> None:
    house.arrange(request("a"))
    house.blobs.capacity = len(request("a"))

    with pytest.raises(StorageFull):
        house.service.validate("batch_1")

    assert house.batch.status is Status.VALIDATING
    house.assert_nothing_left()


def pieces_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[start:cut]
        start = cut
    yield data[start:]


@given(st.text(alphabet="ab \r\n\ufeff", max_size=60).map(str.encode), st.lists(st.integers(0, 1_000), max_size=8))
def test_lines_are_the_same_however_the_file_is_cut_into_pieces(data: bytes, cuts: list[int]) -> None:
    lines = list(read_lines(pieces_of(data, cuts)))

    expected = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if bare.strip():
            expected[number] = bare.removesuffix(b"\r")
    assert {line.number: line.data for line in lines} == expected
    assert all(line.data is not None and data[line.offset :].startswith(line.data) for line in lines)


def test_a_line_without_an_end_is_not_held() -> None:
    held = []

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * MIB
        held.append("read to the end")

    assert list(read_lines(endless())) == [SourceLine(1, 0, None)]
    assert held == ["read to the end"]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_line_exactly_at_the_limit_is_read_whatever_its_ending(ending: bytes) -> None:
    data = b"\xef\xbb\xbf" + b"x" * MAX_LINE_BYTES + ending

    (line,) = read_lines([data[: 5 * MIB], data[5 * MIB :]])

    assert line.data == b"x" * MAX_LINE_BYTES
