"""A batch that was accepted, and whose plan or input is missing in the storage: mended for certain, or ended."""

from dataclasses import replace

import pytest

from app.domain.errors import StorageFull, Unavailable
from app.domain.lifecycle import Event, Status
from app.domain.limits import MIB
from app.domain.plan import ENTRY_BYTES
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.validation import ValidationService
from tests.unit.services.validation_house import House, request

LONG = [f"system prompt {kind} " * 40 for kind in "abc"]


def lines(count: int = 30) -> bytes:
    """Return requests that begin in three ways in turn, for two models."""
    return b"\n".join(
        request(n, model=("small", "large")[n % 2], messages=[{"role": "system", "content": LONG[n % 3]}])
        for n in range(count)
    )


def accepted(house: House, data: bytes | None = None) -> bytes:
    """Return the plan of a batch that was accepted."""
    house.arrange(lines() if data is None else data)
    assert house.service.validate("batch_1") is True
    return house.blobs.stored[house.batch.plan_blob or ""]


def alter(house: House, **fields: object) -> None:
    row = house.batches._db.batches["batch_1"]
    row.batch = replace(row.batch, **fields)  # type: ignore[arg-type]


def lose_plan(house: House) -> None:
    house.blobs.delete(house.batch.plan_blob or "")


def reasons(house: House) -> list[str]:
    return [error.code for error in house.batch.errors]


@pytest.mark.parametrize("groups_at_once", range(5))
@pytest.mark.parametrize("later", [0, 1, 4])
def test_a_lost_plan_is_written_anew_in_the_very_order_whatever_the_setting_is_now(
    groups_at_once: int, later: int
) -> None:
    house = House(groups_at_once=groups_at_once)
    plan = accepted(house)
    lose_plan(house)
    house.groups_at_once = later

    assert house.service_over(house.blobs).validate("batch_1") is False

    assert house.blobs.stored[house.batch.plan_blob or ""] == plan
    assert house.batch.status is Status.IN_PROGRESS


def test_the_plan_of_a_large_file_is_written_anew() -> None:
    house = House()
    plan = accepted(house, lines() + b"\n" * (20 * MIB))
    lose_plan(house)
    house.blobs.delete("verdicts/in")

    house.service.validate("batch_1")

    assert house.blobs.stored[house.batch.plan_blob or ""] == plan


def test_a_plan_is_written_anew_by_what_is_known_of_the_file() -> None:
    house = House()
    plan = accepted(house, lines() + b"\n" * (2 * MIB))
    lose_plan(house)

    house.service.validate("batch_1")

    assert "verdicts/in" in house.blobs.stored
    assert house.blobs.stored[house.batch.plan_blob or ""] == plan


def test_models_that_are_served_no_more_keep_no_plan_from_being_written_anew() -> None:
    house = House()
    plan = accepted(house)
    lose_plan(house)
    house.models = ()

    house.service.validate("batch_1")

    assert house.blobs.stored[house.batch.plan_blob or ""] == plan


class MixedHouse(House):
    def __init__(self) -> None:
        self.places = {"small": "cpu", "large": "gpu"}
        super().__init__()

    def route(self, model: str | None, endpoint: str) -> str | None:
        return self.places.get(model or "")


def test_the_plan_of_a_batch_for_several_upstreams_is_written_anew() -> None:
    house = MixedHouse()
    plan = accepted(house)
    assert len(house.batch.sections) == 2
    lose_plan(house)

    house.service.validate("batch_1")

    assert house.blobs.stored[house.batch.plan_blob or ""] == plan


def test_a_plan_that_comes_out_in_another_order_is_not_taken() -> None:
    house = MixedHouse()
    accepted(house)
    lose_plan(house)
    house.places = {"small": "cpu", "large": "cpu"}

    house.service.validate("batch_1")

    assert (house.batch.status, reasons(house)) == (Status.FAILED, ["plan_missing"])
    assert house.batch.plan_blob not in house.blobs.stored


@pytest.mark.parametrize(
    "damage",
    [lambda plan: b"", lambda plan: plan[:-1], lambda plan: bytes(len(plan)), lambda plan: plan[ENTRY_BYTES:]],
    ids=["empty", "cut", "zeros", "without its first line"],
)
def test_a_damaged_plan_is_as_good_as_lost(damage: object) -> None:
    house = House()
    plan = accepted(house)
    house.blobs.stored[house.batch.plan_blob or ""] = damage(plan)  # type: ignore[operator]

    house.service.validate("batch_1")

    assert house.blobs.stored[house.batch.plan_blob or ""] == plan


@pytest.mark.parametrize("is_plan_there", [True, False], ids=["with its plan", "without its plan"])
@pytest.mark.parametrize("event", [None, Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_batch_whose_input_is_lost_fails_with_that_reason(is_plan_there: bool, event: Event | None) -> None:
    house = House()
    accepted(house)
    alter(house, completed=3)
    if event is not None:
        house.batches.advance("batch_1", event, house.clock.now())
    house.blobs.delete("files/in")
    if not is_plan_there:
        lose_plan(house)

    house.service.validate("batch_1")

    assert (house.batch.status, reasons(house)) == (Status.FAILED, ["input_missing"])
    # Its results are counted, and so kept.
    assert house.batch.completed == 3


def test_an_input_that_is_cut_short_is_as_good_as_lost() -> None:
    house = House()
    accepted(house)
    house.blobs.stored["files/in"] = house.blobs.stored["files/in"][:-1]

    house.service.validate("batch_1")

    assert reasons(house) == ["input_missing"]


def test_another_file_in_place_of_the_input_makes_no_plan() -> None:
    house = House(groups_at_once=4)
    accepted(house)
    lose_plan(house)
    house.blobs.stored["files/in"] = lines(29).ljust(len(lines()), b"\n")

    house.service.validate("batch_1")

    assert reasons(house) == ["plan_missing"]


def test_a_plan_of_an_older_version_can_not_be_told_and_is_not_guessed() -> None:
    house = House()
    accepted(house)
    lose_plan(house)
    alter(house, plan_digest=None)

    house.service.validate("batch_1")

    assert reasons(house) == ["plan_missing"]


def test_a_batch_that_lacks_nothing_is_let_be() -> None:
    house = House()
    plan = accepted(house)
    before = house.batch

    assert house.service.validate("batch_1") is False

    assert house.batch == before
    assert house.blobs.stored[house.batch.plan_blob or ""] == plan


def test_a_batch_with_every_result_needs_no_input() -> None:
    house = House()
    accepted(house)
    alter(house, completed=house.batch.total)
    house.blobs.delete("files/in")

    house.service.validate("batch_1")

    assert house.batch.status is Status.IN_PROGRESS


def test_a_batch_that_has_ended_is_let_be() -> None:
    house = House()
    accepted(house)
    lose_plan(house)
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())
    house.batches.advance("batch_1", Event.FILES_WRITTEN, house.clock.now())

    house.service.validate("batch_1")

    assert (house.batch.status, house.batch.errors) == (Status.CANCELLED, ())


def test_while_the_storage_is_away_no_batch_is_given_up() -> None:
    house = House()
    accepted(house)

    class Away(type(house.blobs)):  # type: ignore[misc]
        def read(self, key: str, offset: int, length: int) -> bytes:
            raise Unavailable("The storage is away.")

    service = ValidationService(
        house.batches,
        Away(house.clock),
        house.clock,
        route=lambda model, endpoint: DEFAULT_UPSTREAM,
        pinned_lines_per_task=None,
    )
    with pytest.raises(Unavailable):
        service.validate("batch_1")

    assert house.batch.status is Status.IN_PROGRESS


def test_a_plan_for_which_there_is_no_room_leaves_nothing_behind() -> None:
    house = House()
    accepted(house)
    lose_plan(house)
    house.blobs.capacity = sum(map(len, house.blobs.stored.values())) + 1

    with pytest.raises(StorageFull):
        house.service.validate("batch_1")

    assert house.blobs.unfinished == set()
    assert house.batch.status is Status.IN_PROGRESS
