import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.workers.waiting import WITHIN_S, batch_in_hand, run_of
from workers.line_run import Line
from workers.runners import OneAtATime, Runners


class Slots:
    """Bounds that a test moves."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.active = self.ticks = 0
        self.waits_for_time = False
        # With so many looks at the time there is a slot more.
        self.grows_at: int | None = None

    @property
    def allowed(self) -> int:
        return self.slots

    def begin(self, of_batch: int = 0) -> bool:
        if self.active >= self.slots:
            return False
        self.active += 1
        return True

    def end(self) -> None:
        self.active -= 1

    def tick(self) -> None:
        self.ticks += 1
        self.slots += self.ticks == self.grows_at


class House:
    """Runners whose lines end when a test says so."""

    def __init__(self, bounds: Slots | OneAtATime) -> None:
        self.started: list[int] = []
        self.dropped: list[int] = []
        self.no_more_waiting: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.broken: set[int] = set()
        self._gates: dict[int, asyncio.Event] = {}
        self._batch = batch_in_hand()
        self.runners = Runners(
            self._run,
            lambda line: self.dropped.append(line.position),
            bounds,
            lambda line: self.no_more_waiting.append(line.position),
        )

    async def _run(self, line: Line) -> None:
        self.started.append(line.position)
        me = asyncio.current_task()
        assert me is not None
        self.tasks.append(me)
        if line.position in self.broken:
            raise ZeroDivisionError
        await self._gate(line.position).wait()

    def _gate(self, position: int) -> asyncio.Event:
        return self._gates.setdefault(position, asyncio.Event())

    async def put(self, *positions: int) -> None:
        run = run_of(len(positions), self._batch)
        for position in positions:
            # Whose lane it is, is of no matter to who runs it.
            self.runners.put(Line(run, None, position, 0, 10))  # type: ignore[arg-type]
        await settled()

    async def end(self, *positions: int) -> None:
        for position in positions:
            self._gate(position).set()
        await settled()


async def settled() -> None:
    """Let all that is due be done."""
    for _ in range(10):
        await asyncio.sleep(0)


def with_house(bounds: Slots | OneAtATime, act: Callable[[House], Awaitable[None]]) -> House:
    """Run a test in a loop of its own."""

    async def main() -> House:
        house = House(bounds)
        await act(house)
        await house.runners.stop()
        # One that broke would say so when it is collected, which may be amid any test.
        await asyncio.gather(*house.tasks, return_exceptions=True)
        return house

    return asyncio.run(main())


def is_in(*positions: int) -> Callable[[Line], bool]:
    return lambda line: line.position in positions


def test_lines_run_in_the_order_in_which_they_come_as_many_at_once_as_may() -> None:
    async def act(house: House) -> None:
        await house.put(0, 1, 2, 3)
        at_first = list(house.started)
        await house.end(1)
        then = list(house.started)
        await house.end(0, 2)

        assert at_first == [0, 1]
        assert then == [0, 1, 2]
        assert house.started == house.no_more_waiting == [0, 1, 2, 3]

    with_house(Slots(2), act)


def test_one_at_a_time_is_one_at_a_time() -> None:
    async def act(house: House) -> None:
        started = []
        await house.put(0, 1, 2)
        for position in range(3):
            started.append(list(house.started))
            await house.end(position)

        assert started == [[0], [0, 1], [0, 1, 2]]

    with_house(OneAtATime(), act)


def test_a_runner_that_has_nothing_to_do_is_used_again() -> None:
    async def act(house: House) -> None:
        await house.put(0)
        await house.end(0)
        await house.put(1)
        await house.end(1)

        assert house.started == [0, 1]
        assert house.tasks[0] is house.tasks[1]

    with_house(Slots(2), act)


def test_each_line_ends_once_for_its_bounds() -> None:
    slots = Slots(2)

    async def act(house: House) -> None:
        house.broken = {3}
        await house.put(0, 1, 2, 3, 4)
        house.runners.break_off(is_in(1))
        await settled()
        await house.end(0, 2, 4)

        assert slots.active == 0
        assert (sorted(house.started), house.dropped) == ([0, 1, 2, 3, 4], [1, 3])

    with_house(slots, act)


def test_what_a_look_finds_allowed_by_now_starts() -> None:
    slots = Slots(0)

    async def act(house: House) -> None:
        await house.put(0, 1, 2)
        before = list(house.started)
        slots.slots = 2
        house.runners.look()
        await settled()

        assert (before, house.started) == ([], [0, 1])

    with_house(slots, act)


def test_a_line_that_ends_makes_way_for_all_that_is_allowed_by_then() -> None:
    slots = Slots(1)

    async def act(house: House) -> None:
        await house.put(0, 1, 2, 3)
        slots.slots = 3
        await house.end(0)

        assert house.started == [0, 1, 2, 3]

    with_house(slots, act)


def test_what_waits_for_time_to_pass_starts_though_nothing_ends() -> None:
    slots = Slots(0)
    slots.waits_for_time, slots.grows_at = True, 3

    async def act(house: House) -> None:
        await house.put(0)
        deadline = time.monotonic() + WITHIN_S
        while not house.started:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)

        assert slots.ticks == 3

    with_house(slots, act)


@pytest.mark.parametrize("waits_for_time", [False, True])
def test_time_is_looked_at_only_while_a_line_waits_for_it(waits_for_time: bool) -> None:
    slots = Slots(1)
    slots.waits_for_time = waits_for_time

    async def act(house: House) -> None:
        await house.put(0)
        alone = house.runners._tick_handle
        await house.put(1)

        assert alone is None
        assert (house.runners._tick_handle is not None) == waits_for_time

    with_house(slots, act)


def test_a_runner_that_finds_nothing_allowed_has_the_time_looked_at() -> None:
    slots = Slots(1)

    async def act(house: House) -> None:
        await house.put(0, 1)
        slots.slots, slots.waits_for_time, slots.grows_at = 0, True, 1
        await house.end(0)

        assert house.runners._tick_handle is not None

    with_house(slots, act)


def test_waiting_lines_that_are_over_are_dropped_and_the_others_stay_in_order() -> None:
    async def act(house: House) -> None:
        await house.put(0, 1, 2, 3, 4)
        house.runners.drop_waiting(is_in(0, 1, 3))
        dropped, told = list(house.dropped), list(house.no_more_waiting)
        await house.end(0, 2, 4)

        # The first one runs: it waits no more.
        assert (dropped, told) == ([1, 3], [0, 1, 3])
        assert house.started == [0, 2, 4]
        assert house.dropped == [1, 3]

    with_house(Slots(1), act)


def test_calls_that_are_broken_off_are_dropped_and_make_way() -> None:
    async def act(house: House) -> None:
        await house.put(0, 1, 2, 3)
        house.runners.break_off(is_in(0, 3))
        await settled()

        assert house.dropped == [0]
        assert house.started == [0, 1, 2]

    with_house(Slots(2), act)


def test_a_runner_that_is_idle_is_not_broken_off() -> None:
    async def act(house: House) -> None:
        await house.put(0)
        await house.end(0)
        house.runners.break_off(lambda _: True)
        await settled()
        await house.put(1)

        assert house.started == [0, 1]
        assert house.dropped == []
        assert house.tasks[0] is house.tasks[1]

    with_house(Slots(1), act)


def test_a_line_that_breaks_its_runner_is_dropped_and_makes_way() -> None:
    async def act(house: House) -> None:
        house.broken = {0}
        await house.put(0, 1)

        assert house.dropped == [0]
        assert house.started == [0, 1]

    with_house(OneAtATime(), act)


def test_stopping_breaks_off_what_runs_and_starts_nothing_that_waits() -> None:
    async def act(house: House) -> None:
        await house.put(0, 1, 2)

    house = with_house(Slots(2), act)

    assert house.started == [0, 1]
    assert sorted(house.dropped) == [0, 1]
