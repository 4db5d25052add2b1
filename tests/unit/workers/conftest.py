"""Engines that run, for the tests that have no house of their own."""

from collections.abc import Callable, Iterator

import pytest

from tests.unit.workers.engine_house import EngineHouse


@pytest.fixture
def open_house() -> Iterator[Callable[..., EngineHouse]]:
    opened: list[EngineHouse] = []

    def open_one(*args: object, **kwargs: object) -> EngineHouse:
        opened.append(EngineHouse(*args, **kwargs))
        return opened[-1]

    yield open_one
    for house in opened:
        house.end()


@pytest.fixture
def house(open_house: Callable[..., EngineHouse]) -> EngineHouse:
    return open_house()
