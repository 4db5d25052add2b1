"""A line was run twice, and both hand in what they got: the first counts, once."""

from functools import partial

from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, at_once, meanwhile
from tests.races.sides import Side, result


def test_of_two_results_of_a_line_the_first_stays_and_counts_once(one: Side, other: Side) -> None:
    one.add_running()
    first, second = result(0, body=b'{"try":1}'), result(0, body=b'{"try":2}')

    _, progress, has_waited = meanwhile(one, lambda: one.record(first), COMMIT, other, lambda: other.record(second))

    assert has_waited
    assert len(progress) == 1
    assert one.rows() == {0: first.payload}
    assert (one.batch().completed, one.batch().failed) == (1, 0)


def test_a_good_and_a_bad_result_of_a_line_count_as_one(one: Side, other: Side) -> None:
    one.add_running()
    bad = result(0)._replace(ok=False, payload=b"bad")

    meanwhile(one, lambda: one.record(bad), COMMIT, other, lambda: other.record(result(0)))

    assert one.rows() == {0: b"bad"}
    assert (one.batch().completed, one.batch().failed) == (0, 1)


def test_what_is_new_beside_a_duplicate_is_recorded(one: Side, other: Side) -> None:
    one.add_running()

    meanwhile(
        one,
        lambda: one.record(result(0), result(1)),
        "UPDATE sections",
        other,
        lambda: other.record(result(1), result(2), result(2)),
    )

    assert one.rows().keys() == {0, 1, 2}
    assert one.batch().completed == 3


def test_many_lines_recorded_by_several_at_once_count_once(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    sides[0].add_running("batch_1", total=40)
    sides[0].add_running("batch_2", total=40)
    # In orders that would lock each other out if rows were locked as they come.
    new = [result(position, batch_id) for position in range(40) for batch_id in ("batch_1", "batch_2")]
    orders = [new, new[::-1], new[40:] + new[:40], sorted(new)]

    outcomes = at_once([partial(side.record, *order) for side, order in zip(sides, orders, strict=True)])

    assert all(len(progress) == 2 for progress in outcomes)
    for batch_id in ("batch_1", "batch_2"):
        batch = sides[0].batch(batch_id)
        assert (batch.completed, batch.failed) == (40, 0)
        assert len(sides[0].rows(batch_id)) == 40
