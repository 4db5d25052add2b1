from collections.abc import Iterator

import pytest

from tests.unit.services.blame_house import Behaviour, BlameHouse, Open


@pytest.fixture
def open_house() -> Iterator[Open]:
    houses: list[BlameHouse] = []

    def build(behaviour: Behaviour, **settings: float) -> BlameHouse:
        houses.append(BlameHouse(behaviour, **settings))
        return houses[-1]

    yield build
    for house in houses:
        house.end()
