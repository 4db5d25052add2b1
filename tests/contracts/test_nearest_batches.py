"""The choice of batches where more batches wait than the caller asks for."""

from itertools import combinations, permutations

from app.domain.batch import Batch
from app.domain.lifecycle import Event
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.sharing import MOST_BATCHES
from tests.contracts.conftest import NOW, Stores, planned, result


def add(stores: Stores, tenant: str, count: int, expires_at: float, *upstreams: str, first: int = 0) -> list[Batch]:
    """Add running batches, numbered from `first`, with one line for each of the upstreams."""
    added = []
    for number in range(count):
        batch_id = "_".join(["batch", tenant, *upstreams, str(first + number)])
        fields = {"tenant_id": tenant, "expires_at": expires_at + number}
        if len(upstreams) > 1:
            added.append(stores.add_mixed(batch_id, dict.fromkeys(upstreams, 1), 1, **fields))
        else:
            stores.add_batch(batch_id, **fields)
            one_line = planned(1, *(upstreams or (DEFAULT_UPSTREAM,)), per_task=1)
            added.append(stores.batches.accept(batch_id, one_line, NOW + 1))
    return added


def send(stores: Stores, batches: list[Batch], *upstreams: str) -> None:
    """Hand out and record the lines of the batches for the given upstreams."""
    for batch in batches:
        for section in batch.sections:
            if section.upstream in upstreams:
                assert stores.batches.move_cursor(batch.id, section.first_task, section.end_task)
                positions = range(section.first_line, section.end_line)
                stores.results.record([result(position, batch_id=batch.id) for position in positions])


def waiting(batch: Batch) -> frozenset[str]:
    return frozenset(section.upstream for section in batch.sections if section.next_task < section.end_task)


def undispatched(stores: Stores, limit: int) -> list[str]:
    return [batch.id.removeprefix("batch_") for batch in stores.batches.undispatched(limit)]


def test_a_tenant_with_too_many_batches_leaves_room_for_other_tenants(stores: Stores) -> None:
    add(stores, "many", 12, NOW + 10)
    add(stores, "few", 2, NOW + 10_000)

    found = stores.batches.undispatched(6)

    assert [batch.id for batch in found] == [
        *(f"batch_many_{number}" for number in range(4)),
        "batch_few_0",
        "batch_few_1",
    ]


def test_a_lone_tenant_has_every_place(stores: Stores) -> None:
    add(stores, "many", 12, NOW + 10)

    found = stores.batches.undispatched(6)

    assert [batch.id for batch in found] == [f"batch_many_{number}" for number in range(6)]


def test_batches_with_lines_in_flight_leave_half_of_the_places_to_new_batches(stores: Stores) -> None:
    old = [stores.add_running(f"batch_old_{n}", 10, expires_at=NOW + n) for n in range(8)]
    for batch in old:
        assert stores.batches.move_cursor(batch.id, 0, 1)
    add(stores, "tenant", 4, NOW + 10_000)

    assert undispatched(stores, 4) == ["old_0", "old_1", "tenant_0", "tenant_1"]
    assert undispatched(stores, 7) == [*(f"old_{n}" for n in range(3)), *(f"tenant_{n}" for n in range(4))]


def test_places_not_needed_by_batches_without_lines_in_flight_go_to_the_others(stores: Stores) -> None:
    old = [stores.add_running(f"batch_old_{n}", 10, expires_at=NOW + n) for n in range(8)]
    for batch in old:
        assert stores.batches.move_cursor(batch.id, 0, 1)
    stores.results.record([result(position, batch_id="batch_old_7") for position in range(2)])

    assert undispatched(stores, 4) == ["old_0", "old_1", "old_2", "old_7"]


def test_the_newest_batches_are_looked_at_whatever_their_deadline(stores: Stores) -> None:
    add(stores, "tenant", 20, NOW + 10)
    stores.add_running("batch_middle", expires_at=NOW + 27.5)

    # The limit is exceeded by an eighth.
    assert undispatched(stores, 16) == [*(f"tenant_{number}" for number in range(16)), "middle", "tenant_19"]


def test_of_equal_deadlines_the_batch_that_was_made_first_comes_first(stores: Stores) -> None:
    for name in ("c", "a", "b"):
        stores.add_running(f"batch_{name}")

    assert undispatched(stores, 2) == ["c", "a"]
    assert undispatched(stores, 10) == ["c", "a", "b"]


def test_batches_for_one_upstream_leave_room_for_the_other_batches_of_the_tenant(stores: Stores) -> None:
    add(stores, "tenant", 12, NOW + 10, "slow")
    add(stores, "tenant", 2, NOW + 10_000, "fast")
    add(stores, "tenant", 12, NOW + 20, "fast", "slow")

    # Batches for both upstreams wait in the queue of each upstream.
    assert undispatched(stores, 7) == [
        *(f"tenant_slow_{number}" for number in range(4)),
        *(f"tenant_fast_slow_{number}" for number in range(3)),
    ]


def test_a_tenant_with_many_upstreams_has_no_more_places_than_a_tenant_with_one(stores: Stores) -> None:
    for upstream in ("a", "b", "c", "d"):
        add(stores, "many", 4, NOW + 10, upstream)
    add(stores, "few", 4, NOW + 10_000, "a")

    found = [batch.tenant_id for batch in stores.batches.undispatched(6)]

    assert found == ["many"] * 3 + ["few"] * 3


def test_mixed_batches_whose_rest_waits_for_one_upstream_leave_room_for_new_ones(stores: Stores) -> None:
    old = add(stores, "tenant", MOST_BATCHES, NOW + 10, "gpu", "gone")
    send(stores, old, "gpu")
    add(stores, "tenant", 1, NOW + 10_000, "gpu", "cpu")
    add(stores, "tenant", 1, NOW + 20_000, "cpu", "gpu")
    add(stores, "tenant", 1, NOW + 30_000, "gpu", "gone", first=MOST_BATCHES)

    found = undispatched(stores, MOST_BATCHES)

    assert len(found) <= MOST_BATCHES + 3
    assert found[-3:] == ["tenant_gpu_cpu_0", "tenant_cpu_gpu_0", f"tenant_gpu_gone_{MOST_BATCHES}"]


def test_mixed_batches_that_wait_for_their_first_upstream_only_leave_room_for_new_ones(stores: Stores) -> None:
    send(stores, add(stores, "tenant", 6, NOW + 10, "gone", "gpu"), "gpu")
    add(stores, "tenant", 1, NOW + 10_000, "gone", "gpu", first=6)

    assert undispatched(stores, 6)[-1] == "tenant_gone_gpu_6"


def test_the_rest_of_a_mixed_batch_waits_with_the_batches_for_that_upstream_alone(stores: Stores) -> None:
    send(stores, add(stores, "tenant", 6, NOW + 10, "gpu", "slow"), "gpu")
    add(stores, "tenant", 6, NOW + 5, "slow")
    add(stores, "tenant", 6, NOW + 10_000, "gpu")

    assert undispatched(stores, 6) == [
        *(f"tenant_slow_{number}" for number in range(3)),
        *(f"tenant_gpu_{number}" for number in range(3)),
    ]


def test_a_section_sent_in_part_still_waits(stores: Stores) -> None:
    old = [
        stores.add_mixed(f"batch_old_{number}", {"gpu": 2, "slow": 1}, 1, expires_at=NOW + 10 + number)
        for number in range(4)
    ]
    for batch in old:
        assert stores.batches.move_cursor(batch.id, 0, 1)
        stores.results.record([result(0, batch_id=batch.id)])
    add(stores, "tenant", 2, NOW + 5, "slow")

    # One place of two is for batches that wait for `gpu`, the other place for batches that wait for `slow`.
    assert undispatched(stores, 2) == ["tenant_slow_0", "old_0"]
    for batch in old:
        assert stores.batches.move_cursor(batch.id, 1, 2)
        stores.results.record([result(1, batch_id=batch.id)])
    assert undispatched(stores, 2) == ["tenant_slow_0", "tenant_slow_1"]


def test_a_batch_with_several_sections_takes_one_place(stores: Stores) -> None:
    for number in range(8):
        stores.add_mixed(f"batch_{number}", {"gpu": 2, "cpu": 1}, 1, expires_at=NOW + 10 + number)
    for number in range(3):
        assert stores.batches.move_cursor(f"batch_{number}", 0, 1)

    # The first three have a section with lines in flight, and a section without.
    assert undispatched(stores, 6) == [str(number) for number in range(6)]


def test_each_upstream_has_work_among_the_found_batches_for_every_combination_of_upstreams(stores: Stores) -> None:
    names = ("a", "b", "c", "d")
    for size in range(1, len(names) + 1):
        for number, these in enumerate(combinations(names, size)):
            add(stores, "tenant", 3, NOW + 1_000 * size + number, *these)
    send(stores, add(stores, "tenant", 20, NOW, *names, first=3), "a", "b", "c")

    found = stores.batches.undispatched(len(names))

    assert {name for batch in found for name in waiting(batch)} == set(names)


def test_the_order_of_upstreams_in_a_batch_does_not_matter(stores: Stores) -> None:
    for number, these in enumerate(permutations(("a", "b", "c"))):
        add(stores, "tenant", 2, NOW + 10 + 10 * number, *these)
    add(stores, "tenant", 3, NOW + 10_000, "d")

    found = undispatched(stores, 6)

    assert found[-3:] == ["tenant_d_0", "tenant_d_1", "tenant_d_2"]


def test_ended_mixed_batches_are_sent_no_more(stores: Stores) -> None:
    for batch in add(stores, "tenant", 4, NOW + 10, "gpu", "cpu"):
        stores.batches.advance(batch.id, Event.CANCEL_REQUESTED, NOW + 2)

    assert stores.batches.undispatched(2) == []
