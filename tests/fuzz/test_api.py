"""What schemathesis makes of /openapi.json, on every run of the tests; `python -m tests.fuzz.api` sends thousands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployed import Deployed
from tests.fuzz.api import ST, run_schemathesis

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not Path(ST).exists(), reason="schemathesis is not installed"),
]


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    """A deployment of its own: what is generated fills the lists that other tests read."""
    deployed = Deployed()
    yield deployed
    deployed.end()


def test_every_answer_is_as_the_description_says(deployed: Deployed) -> None:
    run = run_schemathesis(deployed, seed=1, examples=5, phases="examples,coverage,fuzzing")

    assert run.is_clean, run.said[-6_000:]
    assert run.answers.total() > 100
    assert [status for status in run.answers if status >= 500] == []
