"""A handful of rounds whose plans are fixed: what most often dies, on each database."""

from collections.abc import Sequence
from random import Random

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.house import POSTGRESQL, SQLITE, House
from tests.chaos.plan import Plan, Throw, When
from tests.chaos.round import Round

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_SIZES = (250, 30, 1)
# Some lines are in flight by then.
_DELAY_S = 0.3


def fixed_plan(number: int, database: str, name: str) -> Plan:
    fault = next(fault for fault in FAULTS if fault.name == name)
    return Plan(
        number,
        f"short-{database}-{number}",
        Random(number),
        _SIZES,
        When.RUNNING,
        (Throw(fault, _DELAY_S),),
        stall_s=2.0,
        cut_s=2.0,
    )


def violations_of(database: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Play a round for each of these faults in one house; return what each violated."""
    house = House(database)
    try:
        outcomes = [Round(house, fixed_plan(number, database, name)).run() for number, name in enumerate(names)]
    finally:
        house.end()
    return {outcome.title: outcome.violations for outcome in outcomes if outcome.violations}


def test_batches_on_sqlite_survive_the_death_of_worker_broker_and_control() -> None:
    assert violations_of(SQLITE, ["kill-worker", "kill-broker", "flushall", "kill-control"]) == {}


def test_batches_on_postgresql_survive_a_crash_of_the_database() -> None:
    assert violations_of(POSTGRESQL, ["postgres-crashed"]) == {}
