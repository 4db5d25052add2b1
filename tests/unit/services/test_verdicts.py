"""The structure of a file is found out once for the same bytes; models and settings are looked at each time."""

import time
from collections.abc import Iterator

import pytest

from app.domain.batch import Batch
from app.domain.limits import MIB
from app.domain.source_lines import read_lines
from app.domain.structure import read_structure
from app.services.verdicts import Verdicts
from tests.fakes.outside import MemoryBlobs
from tests.unit.services.validation_house import CHAT, House, request

# Above the size from which a verdict is kept.
LARGE = b"\n".join(request(number, pad="x" * 600) for number in range(2_000))
VERDICT = "verdicts/in"


class CountingBlobs(MemoryBlobs):
    """Blobs that count the bytes of inputs that were read."""

    read_bytes = 0

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.read_bytes += len(self.stored[key])
        return super().stream(key, offset, length)


class CountingHouse(House):
    """A house that counts the bytes of inputs that were read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counted = self.blobs = CountingBlobs(self.clock)
        self.service = self.service_over(self.blobs)

    def validate(self, batch_id: str, endpoint: str = CHAT) -> Batch:
        """Validate one more batch of the file."""
        self.arrange_batch(batch_id, endpoint)
        self.service.validate(batch_id)
        batch = self.batches.find(batch_id)
        assert batch is not None
        return batch

    def plan_of(self, batch: Batch) -> bytes:
        assert batch.plan_blob is not None
        return self.blobs.stored[batch.plan_blob]


def arranged(data: bytes = LARGE) -> CountingHouse:
    house = CountingHouse()
    house.arrange(data)
    house.service.validate("batch_1")
    assert house.counted.read_bytes == len(data)
    return house


def test_a_file_is_read_once_for_many_batches() -> None:
    house = arranged()

    batches = [house.validate(f"batch_{number}") for number in range(2, 9)]

    assert house.counted.read_bytes == len(LARGE)
    assert {batch.total for batch in batches} == {2_000}
    assert {house.plan_of(batch) for batch in batches} == {house.plan_of(house.batch)}


def test_a_second_validation_of_a_file_costs_a_small_part_of_the_first() -> None:
    house = CountingHouse()
    house.arrange(b"\n".join(request(number, pad=["x"] * 5_000) for number in range(500)))

    def cost(batch_id: str) -> float:
        begun = time.thread_time()
        house.service.validate(batch_id)
        return time.thread_time() - begun

    first = cost("batch_1")
    for number in range(2, 5):
        house.arrange_batch(f"batch_{number}")
    again = min(cost(f"batch_{number}") for number in range(2, 5))

    assert again < first / 3


def test_the_errors_of_a_file_are_known_the_second_time() -> None:
    data = LARGE + b"\nhello\n" * 200
    house = arranged(data)

    again = house.validate("batch_2")

    assert house.counted.read_bytes == len(data)
    assert len(again.errors) == 101
    assert again.errors == house.batch.errors


def test_models_are_looked_up_anew() -> None:
    house = arranged(LARGE.replace(b"small", b"new-model"))
    assert [error.code for error in house.batch.errors[:2]] == ["model_not_found"] * 2
    house.models = ("new-model",)

    again = house.validate("batch_2")

    assert again.errors == ()
    assert (again.model, again.total) == ("new-model", 2_000)
    assert house.counted.read_bytes == len(LARGE.replace(b"small", b"new-model"))


def test_a_model_that_was_taken_away_refuses_a_file_that_passed() -> None:
    house = arranged()
    house.models = ()

    again = house.validate("batch_2")

    assert {error.code for error in again.errors} == {"model_not_found", "too_many_errors"}
    assert [error.line for error in again.errors[:3]] == [1, 2, 3]


def test_errors_of_lines_and_of_models_are_told_in_the_order_of_the_file() -> None:
    lines = LARGE.split(b"\n")
    lines[3], lines[5] = b"hello", request("a", model="unknown")
    lines[8] = lines[7]
    house = arranged(b"\n".join(lines))

    found = [(error.line, error.code) for error in house.batch.errors]

    assert found == [(4, "invalid_json_line"), (6, "model_not_found"), (9, "duplicate_custom_id")]


def test_another_endpoint_has_a_verdict_of_its_own() -> None:
    house = arranged()

    other = house.validate("batch_2", "/v1/embeddings")
    again = house.validate("batch_3")

    assert {error.code for error in other.errors} == {"invalid_url", "too_many_errors"}
    assert house.plan_of(again) == house.plan_of(house.batch)


@pytest.mark.parametrize("torn", [b"", b"x" * 40, b"\0" * 5_000], ids=["empty", "short", "zeros"])
def test_a_torn_verdict_is_made_anew(torn: bytes) -> None:
    house = arranged()
    house.blobs.stored[VERDICT] = torn

    again = house.validate("batch_2")

    assert house.plan_of(again) == house.plan_of(house.batch)
    assert house.counted.read_bytes == 2 * len(LARGE)
    assert house.blobs.stored[VERDICT] != torn


def test_a_verdict_that_is_cut_or_changed_in_one_byte_is_made_anew() -> None:
    house = arranged()
    whole = house.blobs.stored[VERDICT]
    changed = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for number, broken in enumerate([whole[:-1], whole[: len(whole) // 2], changed], 2):
        house.blobs.stored[VERDICT] = broken

        house.validate(f"batch_{number}")

        assert house.counted.read_bytes == number * len(LARGE)
        assert house.blobs.stored[VERDICT] == whole


def test_a_verdict_on_another_input_is_not_taken() -> None:
    house = arranged()
    other = LARGE.replace(b'"x', b'"y')
    house.blobs.put("files/other", other)
    Verdicts(house.blobs).keep("files/other", CHAT, read_structure(read_lines([other]), CHAT), len(other))
    house.blobs.stored[VERDICT] = house.blobs.stored["verdicts/other"]

    house.validate("batch_2")

    assert house.counted.read_bytes == 2 * len(LARGE)


def test_a_verdict_by_other_rules_is_made_anew() -> None:
    house = arranged()
    Verdicts(house.blobs, rules="of yesterday").keep("files/in", CHAT, read_structure([], CHAT), len(LARGE))

    again = house.validate("batch_2")

    assert (again.total, house.counted.read_bytes) == (2_000, 2 * len(LARGE))


def test_a_verdict_of_another_format_is_made_anew() -> None:
    house = arranged()
    # A verdict as this code writes it, of other parts.
    verdicts = Verdicts(house.blobs)
    verdicts.keep("files/in", CHAT, ["not", "a", "structure"], len(LARGE))  # type: ignore[arg-type]

    assert verdicts.find("files/in", CHAT) is None
    assert house.validate("batch_2").total == 2_000


def test_a_full_storage_keeps_no_verdict_and_no_batch_waiting() -> None:
    house = House()
    house.arrange(LARGE)
    # Room for the plan, which is as large as the verdict, and for nothing more.
    house.blobs.capacity = len(LARGE) + 2_000 * 32

    assert house.service.validate("batch_1") is True
    assert VERDICT not in house.blobs.stored
    assert house.blobs.unfinished == set()


def test_a_file_that_is_over_a_limit_midway_is_read_once() -> None:
    house = CountingHouse()
    house.arrange(b"x" * MIB + b"\n" + b"x\n" * 60_000 + b"x" * 2 * MIB)
    house.service.validate("batch_1")

    again = house.validate("batch_2")

    assert [error.code for error in again.errors] == ["too_many_tasks"]
    assert house.counted.read_bytes == 3 * MIB + 120_001


def test_a_small_file_gets_no_verdict() -> None:
    house = House()
    house.arrange(request(1))

    assert house.service.validate("batch_1") is True
    assert VERDICT not in house.blobs.stored


def test_a_verdict_is_small_beside_its_file() -> None:
    house = arranged(b"\n".join(request(number, model=f"m{number}", pad="x" * 800) for number in range(2_000)))

    assert len(house.blobs.stored[VERDICT]) < MIB // 8
