"""Counting results writes a section's row anew without touching its indexes, and not the batch's row."""

import time

import pytest
from sqlalchemy import Engine, text

from tests.contracts.conftest import result, stores_over

RESULTS = 300
UPDATES = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :table")
WITHIN_S = 30.0
pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


def updates_of(engine: Engine, table: str, at_least: int = 0) -> tuple[int, int]:
    """Return how often rows were written anew, and how often without their indexes, once the server has said so."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
        with engine.connect() as connection:
            written, without_indexes = connection.execute(UPDATES, {"table": table}).one()
        if written >= at_least:
            return written, without_indexes
        assert time.monotonic() < deadline


@pytest.mark.parametrize("lines", [RESULTS, 50_000], ids=["few lines", "as many lines as a batch may have"])
def test_commits_of_results_leave_the_indexes_of_sections_alone(engine: Engine, lines: int) -> None:
    stores = stores_over(engine)
    stores.add_running(total=lines)
    assert stores.batches.move_cursor("batch_1", 0, lines // 2)
    of_batches, _ = updates_of(engine, "batches")

    for number in range(RESULTS):
        stores.results.record([result(number * lines // RESULTS)])

    written, without_indexes = updates_of(engine, "sections", at_least=RESULTS)
    # A row needs an entry of the indexes where its page is full, and when its stage changes.
    assert without_indexes >= 0.8 * written
    # The batch's row is written once, when all lines have a result.
    assert updates_of(engine, "batches")[0] - of_batches <= 1
