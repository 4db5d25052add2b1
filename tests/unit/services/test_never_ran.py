"""The error lines of a batch that is cancelled or expires: of lines that never ran, and before it was validated."""

import json
from typing import Any

import pytest

from app.domain.batch import Batch
from app.domain.errors import BlobMissing
from app.domain.lifecycle import Event, Status
from app.domain.limits import MAX_LINE_BYTES, MAX_LINES, MIB
from app.domain.plan import PlanEntry, pack_entry
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.never_ran import NeverRan
from app.services.ports import Planned
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch
from tests.unit.services.validation_house import request

ENDINGS = [
    (Event.CANCEL_REQUESTED, Status.CANCELLED, "batch_cancelled"),
    (Event.WINDOW_ELAPSED, Status.EXPIRED, "batch_expired"),
]


class CountingBlobs(MemoryBlobs):
    """Blobs that note the lengths that were read."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.lengths: list[int] = []

    def read(self, key: str, offset: int, length: int) -> bytes:
        self.lengths.append(length)
        return super().read(key, offset, length)


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def error_lines(house: PipelineHouse) -> list[Any]:
    file_id = house.batch().error_file_id
    if file_id is None:
        return []
    return [json.loads(line) for line in house.blobs.stored[house.database.files[file_id].file.blob].splitlines()]


def end_in_validating(house: PipelineHouse, data: bytes, event: Event = Event.CANCEL_REQUESTED) -> list[Any]:
    house.blobs.put("files/in", data)
    house.batches.add(new_batch())
    house.batches.advance("batch_1", event, NOW)
    house.finalization.finalize("batch_1")
    return error_lines(house)


@pytest.mark.parametrize(("event", "ending", "code"), ENDINGS)
def test_a_batch_that_ends_in_validating_names_each_of_its_lines(
    house: PipelineHouse, event: Event, ending: Status, code: str
) -> None:
    lines = end_in_validating(house, b"\n".join(request(f"id-{number}") for number in range(300)), event)

    batch = house.batch()
    assert [line["custom_id"] for line in lines] == [f"id-{number}" for number in range(300)]
    assert {line["error"]["code"] for line in lines} == {code}
    assert len({line["id"] for line in lines}) == 300
    assert (batch.status, batch.output_file_id) == (ending, None)
    assert (batch.total, batch.completed, batch.failed) == (300, 0, 0)


def test_bad_lines_are_named_where_they_name_themselves(house: PipelineHouse) -> None:
    data = b"\n".join(
        [
            b"\xef\xbb\xbf" + request("the first"),
            b"hello",
            b'{"custom_id": "no more than its name"}',
            b"",
            b'{"custom_id": "cut off", "body',
            b'{"custom_id": 7, "body": {}}',
            b'{"custom_id": ""}',
            b'{"custom_id": "%b"}' % (b"x" * 513),
            b'{"custom_id": "half \\ud800"}',
            request("half in the body", user="\ud800"),
            request("the first"),
            b'["custom_id"]',
            b"[" * 100_000,
            b" " * (MAX_LINE_BYTES + 1),
            request("the last 🎈"),
        ]
    )

    lines = end_in_validating(house, data)

    assert [line["custom_id"] for line in lines] == [
        "the first",
        "no more than its name",
        "half in the body",
        "the first",
        "the last 🎈",
    ]
    assert house.batch().total == 5


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\n" * 100])
def test_a_batch_without_a_line_that_names_itself_ends_without_files(house: PipelineHouse, data: bytes) -> None:
    assert end_in_validating(house, data) == []

    batch = house.batch()
    assert (batch.status, batch.total, batch.error_file_id) == (Status.CANCELLED, 0, None)


def test_a_batch_whose_input_is_gone_ends_all_the_same(house: PipelineHouse) -> None:
    house.batches.add(new_batch())
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    assert house.finalization.finalize("batch_1") is True
    assert house.batch().status is Status.CANCELLED


def test_no_more_lines_are_named_than_a_batch_may_have(house: PipelineHouse) -> None:
    lines = end_in_validating(house, b"".join(b'{"custom_id":"%d"}\n' % number for number in range(MAX_LINES + 5)))

    assert (len(lines), house.batch().total) == (MAX_LINES, MAX_LINES)


def arrange_plan(house: PipelineHouse, texts: list[bytes]) -> Batch:
    """Add a batch of these lines whose plan is in the order of the file."""
    entries, offset = [], 0
    for number, text in enumerate(texts, 1):
        entries.append(pack_entry(PlanEntry(number, offset, len(text))))
        offset += len(text) + 1
    house.blobs.put("files/in", b"\n".join(texts))
    house.blobs.put("plans/batch_1", b"".join(entries))
    house.batches.add(new_batch())
    return house.batches.accept("batch_1", Planned("plans/batch_1", 1, [(DEFAULT_UPSTREAM, len(texts))], "small"), NOW)


def test_lines_that_never_ran_are_read_in_long_ranges(house: PipelineHouse) -> None:
    arrange_plan(house, [request(f"id-{number}") for number in range(20_000)])
    house.record(*range(0, 20_000, 40))
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    blobs = CountingBlobs(house.clock)
    blobs.stored = house.blobs.stored

    house.finalization_over(house.results, blobs).finalize("batch_1")

    assert len(error_lines(house)) == 19_500
    assert sum(map(len, (house.blobs.stored["files/in"],))) > 2 * MIB
    # One read of the plan, and one of the input for each MiB.
    assert len(blobs.lengths) < 8
    assert max(blobs.lengths) <= MIB


def test_lines_longer_than_a_range_are_read_whole(house: PipelineHouse) -> None:
    texts = [request(f"id-{number}", pad="x" * (3 * MIB if number % 3 == 1 else 10)) for number in range(9)]
    arrange_plan(house, texts)
    house.batches.advance("batch_1", Event.WINDOW_ELAPSED, NOW)

    house.finalization.finalize("batch_1")

    assert [line["custom_id"] for line in error_lines(house)] == [f"id-{number}" for number in range(9)]
    assert {line["error"]["code"] for line in error_lines(house)} == {"batch_expired"}


def test_lines_may_be_asked_for_against_the_order_of_the_file(house: PipelineHouse) -> None:
    batch = arrange_plan(house, [request(f"id-{number}") for number in range(3)])
    lines = NeverRan(house.blobs, batch, "files/in", house.blobs.stored["plans/batch_1"])

    asked = [json.loads(lines.payload(position))["custom_id"] for position in (2, 0, 1)]

    assert asked == ["id-2", "id-0", "id-1"]


def test_a_line_that_is_cut_short_is_missing(house: PipelineHouse) -> None:
    batch = arrange_plan(house, [request("id-0"), request("id-1")])
    house.blobs.put("files/in", house.blobs.stored["files/in"][:-1])
    lines = NeverRan(house.blobs, batch, "files/in", house.blobs.stored["plans/batch_1"])
    first = json.loads(lines.payload(0))

    with pytest.raises(BlobMissing, match="cut short"):
        lines.payload(1)

    assert first["custom_id"] == "id-0"
