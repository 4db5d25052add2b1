"""Whose turn it is in a lane."""

from collections import Counter

import pytest

from tests.unit.workers.waiting import batch_in_hand, run_of
from workers.batch_turns import BatchTurns, Weight
from workers.line_run import Line, LineRun


class Lane:
    """A lane with so many slots; `begun` are the calls in flight."""

    def __init__(self, slots: int, weights: dict[str, Weight] | None = None) -> None:
        self.slots = self.allowed = slots
        self.now = 0.0
        weights = weights or {}
        self.turns = BatchTurns(lambda batch: weights.get(batch.id, Weight("", 1.0, 1.0)), lambda: self.now)
        self.begun: list[Line] = []
        self._runs: dict[str, LineRun] = {}

    def put(self, batch_id: str, lines: int) -> None:
        run = self._runs.setdefault(batch_id, run_of(lines, batch_in_hand(batch_id)))
        for position in range(lines):
            self.turns.put(Line(run, None, position, 0, 10))  # type: ignore[arg-type]

    def fill(self) -> None:
        self.now += 1.0
        while (line := self.turns.take(self.slots, self.allowed, self._begin)) is not None:
            self.begun.append(line)

    def end(self, batch_id: str, calls: int = 1) -> None:
        for _ in range(calls):
            line = next(line for line in self.begun if line.run.batch.id == batch_id)
            self.begun.remove(line)
            self.turns.end(line)

    def in_flight(self) -> dict[str, int]:
        return dict(Counter(line.run.batch.id for line in self.begun))

    def _begin(self, of_batch: int) -> bool:
        return len(self.begun) < self.allowed


@pytest.mark.parametrize(("slots", "begun"), [(1, 1), (7, 7), (8, 7), (16, 14), (64, 56), (100, 88)])
def test_a_batch_alone_leaves_an_eighth_of_the_slots(slots: int, begun: int) -> None:
    lane = Lane(slots)
    lane.put("alone", 200)

    lane.fill()

    assert lane.in_flight() == {"alone": begun}


def test_each_batch_that_comes_has_some_calls_though_all_before_it_hang() -> None:
    lane = Lane(64)

    for batch_id in ("first", "second", "third", "fourth", "fifth", "sixth"):
        lane.put(batch_id, 200)
        lane.fill()

    assert lane.in_flight() == {"first": 56, "second": 3, "third": 2, "fourth": 1, "fifth": 1, "sixth": 1}


def test_a_batch_hangs_in_which_no_call_ends_while_its_lines_wait() -> None:
    lane = Lane(16)
    lane.put("alone", 20)
    lane.fill()

    seen = []
    for after_s in (2.9, 0.1):
        lane.now += after_s
        seen.append(lane.turns.has_hanging_batch())
    lane.end("alone")

    assert seen == [False, True]
    assert not lane.turns.has_hanging_batch()


def test_many_small_batches_have_all_slots() -> None:
    lane = Lane(16)
    for number in range(20):
        lane.put(f"batch-{number}", 1)

    lane.fill()

    assert len(lane.begun) == 16


def test_what_the_upstream_has_no_room_for_is_not_left_free() -> None:
    lane = Lane(64)
    lane.allowed = 48
    lane.put("alone", 200)

    lane.fill()

    assert lane.in_flight() == {"alone": 48}


def test_a_batch_beyond_its_share_begins_nothing_while_another_waits() -> None:
    lane = Lane(16)
    lane.put("first", 100)
    lane.fill()
    lane.put("second", 100)
    lane.fill()

    lane.end("first", 3)
    lane.fill()

    assert lane.in_flight() == {"first": 11, "second": 3}


def test_a_batch_has_more_than_its_share_where_nobody_else_waits() -> None:
    lane = Lane(16)
    lane.put("large", 100)
    lane.put("small", 2)

    lane.fill()

    assert lane.in_flight() == {"large": 12, "small": 2}


def test_batches_take_turns() -> None:
    lane = Lane(7)
    for batch_id in ("a", "b", "c"):
        lane.put(batch_id, 10)

    lane.fill()

    assert [line.run.batch.id for line in lane.begun] == ["a", "b", "c", "a", "b", "c", "a"]


def test_lines_of_a_batch_keep_their_order() -> None:
    lane = Lane(40)
    lane.put("a", 10)
    lane.put("b", 10)

    lane.fill()

    assert [line.position for line in lane.begun if line.run.batch.id == "a"] == list(range(10))


def test_shares_follow_the_weights_of_tenants_and_of_their_batches() -> None:
    weights = {
        "a": Weight("heavy", 3.0, 1.0),
        "b": Weight("heavy", 3.0, 2.0),
        "c": Weight("light", 1.0, 1.0),
    }
    lane = Lane(40, weights)
    for batch_id in weights:
        lane.put(batch_id, 1_000)
    for _ in range(40):
        lane.fill()
        for batch_id, calls in lane.in_flight().items():
            lane.end(batch_id, max(calls // 4, 1))
    lane.fill()

    # An eighth of the slots is kept free.
    assert lane.in_flight() == {
        "a": pytest.approx(35 / 4, abs=2),
        "b": pytest.approx(35 / 2, abs=2),
        "c": pytest.approx(35 / 4, abs=2),
    }


def test_lines_that_are_over_wait_no_more() -> None:
    lane = Lane(1)
    lane.put("a", 3)
    lane.put("b", 3)

    over = lane.turns.take_out(lambda line: line.run.batch.id == "a")

    assert len(over) == 3
    assert [line.run.batch.id for line in lane.turns] == ["b"] * 3
    assert len(lane.turns) == 3


def test_batches_without_lines_are_forgotten() -> None:
    lane = Lane(8)
    for number in range(100):
        lane.put(f"batch-{number}", 1)
        lane.fill()
        lane.end(f"batch-{number}")

    assert lane.turns._turns == lane.turns._order == {}
