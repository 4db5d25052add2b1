import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.batch import RunningTotal
from app.domain.fairness import Sharing, Weights, Why, Window, is_due
from app.domain.max_min import max_min
from app.domain.standings import RunningBatch
from tests.unit.domain.shares import DAY_S, NOW, batch, lines_of, share


def test_an_empty_window_is_filled_by_the_tenants_weights() -> None:
    _, turns = share(batch("a", "heavy"), batch("b", "light"), weights=Weights({"heavy": 3.0}))

    assert lines_of(turns) == {"a": 90, "b": 30}
    assert {turn.why for turn in turns} == {Why.ROOM}


def test_the_tenant_with_less_than_its_weight_catches_up_first() -> None:
    _, turns = share(batch("a", "one", outstanding=60), batch("b", "other", outstanding=20))

    assert lines_of(turns) == {"b": 40}


def test_what_a_tenants_other_batches_have_counts_for_it() -> None:
    _, turns = share(
        batch("a", "one", outstanding=1, is_new=False), batch("b", "other"), others={"one": RunningTotal(9, 59)}
    )

    assert lines_of(turns) == {"b": 60}


def test_batches_with_a_turn_each_crowd_nobody() -> None:
    going = [batch(f"going_{number}", outstanding=3) for number in range(40)]

    _, turns = share(*going, batch("idle", is_new=False, is_young=False))

    assert turns == []


def test_a_tenant_of_which_all_is_handed_out_has_its_share() -> None:
    sharing, turns = share(batch("a", "one", outstanding=30), others={"other": RunningTotal(3, 90)})

    assert turns == []
    assert {tenant.id: (tenant.share, tenant.outstanding) for tenant in sharing.tenants} == {
        "one": (60.0, 30),
        "other": (60.0, 90),
    }


def test_other_batches_count_as_one_more_when_a_tenants_share_is_parted() -> None:
    sharing, _ = share(batch("a"), batch("b"), others={"tenant": RunningTotal(500, 1_000)})

    assert [standing.share for standing in sharing.tenants[0].batches] == [40.0, 40.0]


def test_many_batches_get_a_tenant_no_more_than_one() -> None:
    many = [batch(f"many_{number}", "many") for number in range(50)]

    _, turns = share(batch("one", "one"), *many)

    assert 59 <= lines_of(turns)["one"] <= 61


def test_batches_of_a_tenant_share_alike_when_deadlines_do_not_count() -> None:
    _, turns = share(
        batch("near", expires_at=NOW + 60, created_at=NOW - DAY_S), batch("far"), weights=Weights(deadline=0.0)
    )

    assert lines_of(turns) == {"near": 60, "far": 60}


@pytest.mark.parametrize(("deadline_weight", "lines"), [(1.0, 80), (2.0, 96)])
def test_half_its_window_over_a_batch_gets_more(deadline_weight: float, lines: int) -> None:
    half_over = batch("near", created_at=NOW - DAY_S, expires_at=NOW + DAY_S)

    _, turns = share(half_over, batch("far"), weights=Weights(deadline=deadline_weight))

    assert lines_of(turns)["near"] == pytest.approx(lines, abs=2)


@pytest.mark.parametrize("left_s", [864.0, 1.0, -3_600.0])
def test_the_deadline_rises_no_further_than_to_a_hundredth_of_the_window(left_s: float) -> None:
    weight = Weights().of_batch(batch(expires_at=NOW + left_s, created_at=NOW + left_s - DAY_S), NOW)

    assert weight == pytest.approx(100.0)


def test_a_batch_created_in_the_future_counts_as_new() -> None:
    assert Weights().of_batch(batch(created_at=NOW + 50, expires_at=NOW + 100), NOW) == 1.0


def test_a_new_small_batch_gets_its_lines_though_the_window_is_full() -> None:
    _, turns = share(batch("large", outstanding=120, lines_per_task=30), batch("small", lines_waiting=10))

    assert lines_of(turns) == {"small": 10}
    assert turns[0].why is Why.BATCH_SHARE


def test_a_new_tenant_gets_its_share_though_the_window_is_full() -> None:
    _, turns = share(batch("a", "one", outstanding=120), batch("b", "new"))

    assert lines_of(turns) == {"b": 60}
    assert turns[0].why is Why.TENANT_SHARE


def test_a_stream_of_small_batches_takes_a_tenant_a_tenth_over_its_share() -> None:
    new = [batch(f"new_{number}", "light", lines_waiting=10) for number in range(20)]

    _, turns = share(batch("a", "heavy", outstanding=60), batch("b", "light", outstanding=60), *new)

    assert sum(lines_of(turns).values()) == 6


def test_lines_that_pause_keep_the_tenants_part_from_none_of_its_other_batches() -> None:
    paused = batch("paused", outstanding=10_000)
    started = batch("started", outstanding=1)

    _, turns = share(paused, started, paused=10_000)

    assert lines_of(turns)["started"] >= 59


def test_lines_that_pause_keep_the_window_from_no_other_tenant() -> None:
    _, turns = share(batch("paused", "away", outstanding=20_000), batch("b", "well", outstanding=5))

    assert lines_of(turns)["b"] == pytest.approx(55, abs=2)


def test_tasks_larger_than_a_share_do_not_shut_a_tenant_out() -> None:
    tiny = Weights({"tiny": 0.01})

    _, turns = share(
        batch("a", "large", outstanding=120), batch("b", "tiny", lines_per_task=50), window=120, weights=tiny
    )

    assert lines_of(turns) == {"b": 50}


def test_a_hundred_batches_get_lines_by_turns_of_a_few_each() -> None:
    _, turns = share(*(batch(f"batch_{number}", is_new=False) for number in range(100)), window=640)

    assert len(turns) == len(lines_of(turns)) == 32


def test_a_window_more_than_three_quarters_full_is_left_alone() -> None:
    _, turns = share(batch(outstanding=91))

    assert turns == []
    assert lines_of(share(batch(outstanding=90))[1]) == {"batch_1": 30}


def test_what_some_do_not_want_goes_to_the_rest_by_weight() -> None:
    assert max_min([(1.0, 5), (3.0, 1_000), (1.0, 1_000)], 85) == [5.0, 60.0, 20.0]
    assert max_min([], 10) == []


def test_after_the_turns_of_now_come_those_of_all_that_waits() -> None:
    sharing, turns = share(batch("a", lines_waiting=100), batch("b", lines_waiting=100))

    later = list(sharing.turns_later())

    assert lines_of(turns) + lines_of(later) == {"a": 100, "b": 100}
    assert {turn.why for turn in later} == {Why.WAITS}


BATCHES = st.lists(
    st.builds(
        RunningBatch,
        id=st.uuids().map(str),
        tenant_id=st.sampled_from(["one", "two", "three", "four"]),
        lines_outstanding=st.integers(0, 400),
        lines_waiting=st.integers(0, 2_000),
        lines_per_task=st.integers(1, 60),
        created_at=st.floats(NOW - DAY_S, NOW),
        expires_at=st.floats(NOW, NOW + DAY_S),
        is_new=st.booleans(),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda each: each.id,
)
WEIGHTS = st.builds(
    Weights,
    st.dictionaries(st.sampled_from(["one", "two", "three"]), st.floats(0.01, 1_000)),
    st.floats(0.0, 10.0),
)


@given(BATCHES, WEIGHTS, st.integers(1, 1_000), st.integers(0, 500))
@settings(deadline=None)
def test_no_bound_is_passed_by_more_than_a_turn(
    running: list[RunningBatch], weights: Weights, lines: int, paused: int
) -> None:
    sharing = Sharing(running, Window(lines + paused, lines, paused), weights, NOW)
    before = {tenant.id: tenant.outstanding for tenant in sharing.tenants}
    most_of_a_task = max(each.lines_per_task for each in running)
    most_of_a_turn = max(most_of_a_task, lines // 32)

    turns = list(sharing.turns())

    by_room = sum(turn.lines for turn in turns if turn.why is Why.ROOM)
    assert by_room < max(lines + paused - sharing.outstanding, 0) + most_of_a_task
    assert by_room == 0 or is_due(sharing.outstanding, lines + paused)
    waiting = {each.id: each.lines_waiting for each in running}
    assert all(given <= waiting[batch_id] for batch_id, given in lines_of(turns).items())
    for tenant in sharing.tenants:
        of_tenant = [turn for turn in turns if turn.batch_id in {each.batch.id for each in tenant.batches}]
        if any(turn.why is not Why.ROOM for turn in of_tenant):
            had = before[tenant.id] + sum(turn.lines for turn in of_tenant if turn.why is Why.ROOM)
            assert tenant.outstanding <= max(had, 1.1 * tenant.share + paused) + most_of_a_turn


@given(BATCHES, WEIGHTS, st.integers(1, 1_000))
@settings(deadline=None)
def test_no_room_is_left_while_lines_wait(running: list[RunningBatch], weights: Weights, lines: int) -> None:
    sharing = Sharing(running, Window(lines, lines), weights, NOW)

    list(sharing.turns())

    after = sum(tenant.outstanding for tenant in sharing.tenants)
    waiting = sum(tenant.waiting for tenant in sharing.tenants)
    assert after > 0.75 * lines or waiting == 0


@given(BATCHES, WEIGHTS, st.integers(1, 1_000))
@settings(deadline=None)
def test_no_tenant_waits_with_nothing_outstanding(running: list[RunningBatch], weights: Weights, lines: int) -> None:
    sharing = Sharing(running, Window(lines, lines), weights, NOW)

    list(sharing.turns())

    assert all(tenant.outstanding or not tenant.waiting for tenant in sharing.tenants)
