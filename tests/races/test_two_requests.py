"""A caller sends one request twice, with one Idempotency-Key: one batch is made."""

from functools import partial

from app.services.idempotency import TwinUnfinished
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, at_once, meanwhile
from tests.races.sides import NOW, TENANT, Side, request_of


def test_of_two_claims_of_a_key_the_second_waits_and_sees_the_first(one: Side, other: Side) -> None:
    first, second, has_waited = meanwhile(
        one,
        lambda: one.idempotency.claim(TENANT, "key", "print", "batch_1", NOW),
        COMMIT,
        other,
        lambda: other.idempotency.claim(TENANT, "key", "print", "batch_2", NOW),
    )

    assert has_waited
    assert first == second == ("print", "batch_1")


def test_of_several_at_once_one_makes_the_batch(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    request = request_of(sides[0].upload())

    def create(side: Side) -> str | None:
        try:
            return side.creation().create(TENANT, request, idempotency_key="key").id
        except TwinUnfinished:
            return None

    made = at_once([partial(create, side) for side in sides])

    stored = sides[0].batches.page(TENANT, after=None, limit=9)
    assert len(stored) == 1
    assert set(made) - {None} == {stored[0].id}
