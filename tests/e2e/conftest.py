"""One `wylon up` for all modules that don't kill it."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.e2e.deployed import Deployed


@pytest.fixture(scope="session")
def deployed() -> Iterator[Deployed]:
    deployed = Deployed()
    yield deployed
    deployed.end()


@pytest.fixture
def client(deployed: Deployed) -> OpenAI:
    return deployed.client()
