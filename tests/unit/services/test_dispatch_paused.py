"""Dispatch while lines wait to be tried again."""

import pytest

from tests.unit.services.pipeline_house import NOW, PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def test_a_batch_whose_lines_all_wait_leaves_the_others_their_share(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    house.add_running("batch_waiting", total=20)
    house.add_running("batch_started", total=1_000)
    house.dispatch_all("batch_waiting")
    house.add_worker(concurrency=8, lines_paused=20)

    house.dispatch.refill()

    assert len(house.published("batch_started")) == 20


def test_lines_that_wait_widen_the_window_only_so_far_as_workers_take_messages(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8, lines_paused=1_000)
    house.add_running("batch_waiting", total=1_000)

    house.dispatch.refill()

    assert len(house.published("batch_waiting")) == 2.5 * 8 + 8 * 8


@pytest.mark.parametrize("outstanding", [128, 192, 1_000])
def test_however_many_lines_wait_another_batch_of_their_tenant_gets_its_share(
    house: PipelineHouse, outstanding: int
) -> None:
    house.add_running("batch_waiting", total=outstanding)
    house.dispatch_all("batch_waiting")
    house.add_worker(concurrency=16, lines_paused=outstanding)
    house.add_running("batch_started", total=30)
    house.clock.advance(60)
    house.add_worker(concurrency=16, lines_paused=outstanding)

    house.dispatch.refill()

    assert len(house.published("batch_started")) == 20


def test_however_many_batches_only_wait_another_of_their_tenant_starts(house: PipelineHouse) -> None:
    for number in range(300):
        house.add_running(f"batch_{number}", total=2, expires_at=NOW + 60)
        house.dispatch_all(f"batch_{number}")
    house.add_running("batch_later", total=30)
    house.clock.advance(10)
    house.add_worker(concurrency=16, lines_paused=600)

    house.dispatch.refill()

    assert len(house.published("batch_later")) == 20


def test_what_batches_that_only_wait_have_counts_for_their_tenant(house: PipelineHouse) -> None:
    for number in range(300):
        house.add_running(f"batch_{number}", total=1, tenant_id="waiting", expires_at=NOW + 60)
        house.dispatch_all(f"batch_{number}")
    house.add_running("batch_waiting", total=1_000, tenant_id="waiting")
    house.add_running("batch_other", total=1_000, tenant_id="other")
    house.clock.advance(10)
    house.add_worker(concurrency=160)

    house.dispatch.refill()

    assert len(house.published("batch_other")) == 100
    # A turn, beside what its tenant has.
    assert len(house.published("batch_waiting")) == 12


@pytest.mark.parametrize("is_paused", [True, False])
def test_two_hundred_large_batches_whose_model_is_away_keep_no_later_one_from_starting_and_going_on(
    house: PipelineHouse, is_paused: bool
) -> None:
    """Lines of theirs that can be told from others pause; some hang."""
    house.add_worker(concurrency=128)
    for number in range(250):
        house.add_running(f"batch_{number}", total=100, expires_at=NOW + 3_600)
        assert house.batches.move_cursor(f"batch_{number}", 0, 8 if is_paused else 2)
    house.clock.advance(60)
    lines_paused = 2_000 if is_paused else 0
    house.add_running("batch_later", total=100)
    sent_at_first = []
    for _ in range(8):
        # As after a restart of control: nothing of it is new any more.
        house.clock.advance(5)
        house.add_worker(concurrency=128, lines_paused=lines_paused)
        house.dispatch.refill()
        sent_at_first.append(len(house.published("batch_later")))
        house.record(*house.published("batch_later"), batch_id="batch_later")

    assert sent_at_first[0] >= 10
    assert sent_at_first[-1] >= 80
