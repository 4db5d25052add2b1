from collections.abc import Iterable

import pytest

from app.domain.file_work import SMALL_BYTES, FileOrder, Work
from app.domain.limits import MIB

LARGE_BYTES = 192 * MIB
TENANT = "tenant"


@pytest.fixture
def order() -> FileOrder[str]:
    return FileOrder(at_once=4, large_checks=2, large_writes=1)


def add(
    order: FileOrder[str], keys: Iterable[str], size: int, now: float = 0.0, *, tenant: str = TENANT, blob: str = ""
) -> None:
    for key in keys:
        order.add(key, Work(tenant, size, blob or None), now)


def begin(order: FileOrder[str]) -> str | None:
    begun = order.begin()
    return None if begun is None else begun[0]


def begin_all(order: FileOrder[str]) -> list[str]:
    """Begin work until no work may begin."""
    return list(iter(lambda: begin(order) or "", ""))


def run_all(order: FileOrder[str]) -> list[str]:
    """Run all work, a piece at a time."""
    ran = []
    while (key := begin(order)) is not None:
        ran.append(key)
        order.end(key)
    return ran


def test_so_much_work_runs_at_once_and_of_large_work_less(order: FileOrder[str]) -> None:
    add(order, ("large-1", "large-2", "large-3"), LARGE_BYTES)
    large = begin_all(order)
    add(order, ("small-1", "small-2", "small-3"), 10)

    small = begin_all(order)

    assert large == ["large-1", "large-2"]
    assert small == ["small-1", "small-2"]


def test_large_files_are_written_beside_large_inputs_that_are_checked(order: FileOrder[str]) -> None:
    add(order, ("check-1", "check-2", "check-3"), LARGE_BYTES)
    begin_all(order)
    for key in ("write-1", "write-2"):
        order.add(key, Work(TENANT, LARGE_BYTES, is_write=True), 1.0)
    add(order, ("small",), 10)

    assert begin_all(order) == ["small", "write-1"]


def test_a_check_has_a_turn_beside_any_number_of_batches_that_end(order: FileOrder[str]) -> None:
    for number in range(500):
        order.add(f"write-{number}", Work(TENANT, 10, is_write=True), 0.0)
    add(order, ("check",), 10, now=1.0)

    assert begin_all(order) == ["write-0", "write-1", "write-2", "check"]


def test_checking_makes_way_for_writing_and_both_make_way_for_small_work(order: FileOrder[str]) -> None:
    check, write = Work(TENANT, LARGE_BYTES), Work(TENANT, LARGE_BYTES, is_write=True)
    order.add("check", check, 0.0)
    begin_all(order)
    alone = order.is_urgent_running(check)
    order.add("write", write, 0.0)
    begin_all(order)
    with_a_write = order.is_urgent_running(check), order.is_urgent_running(write)
    add(order, ("small",), 10)
    begin_all(order)

    assert not alone
    assert with_a_write == (True, False)
    assert order.is_urgent_running(write)


def test_small_work_goes_before_large_work_that_came_earlier(order: FileOrder[str]) -> None:
    add(order, ("large",), SMALL_BYTES)
    add(order, ("small",), 10, now=1.0)

    assert run_all(order) == ["small", "large"]


def test_work_of_one_size_goes_in_the_order_in_which_it_came(order: FileOrder[str]) -> None:
    for number in range(5):
        add(order, (f"each-{number}",), MIB, now=float(number))

    assert run_all(order) == [f"each-{number}" for number in range(5)]


def test_large_work_is_passed_by_small_work_for_a_bounded_time(order: FileOrder[str]) -> None:
    add(order, ("large",), LARGE_BYTES)
    for second in range(1_000):
        add(order, (f"small-{second:03}",), 10, now=float(second))

    ran = run_all(order)

    # A second for each MiB.
    assert ran.index("large") == 192


def test_tenants_share_whatever_each_of_them_has_waiting(order: FileOrder[str]) -> None:
    add(order, (f"many-{number}" for number in range(50)), MIB, tenant="with many")
    add(order, ("few-0", "few-1"), MIB, now=10.0, tenant="with few")

    ran = run_all(order)

    assert set(ran[:4]) == {"many-0", "many-1", "few-0", "few-1"}


def test_tenants_share_bytes_and_not_numbers(order: FileOrder[str]) -> None:
    add(order, (f"large-{number}" for number in range(10)), 8 * MIB, tenant="with large")
    add(order, (f"small-{number}" for number in range(40)), MIB, tenant="with small")

    ran = run_all(order)

    assert 6 <= sum(key.startswith("small") for key in ran[:10]) <= 9


def test_a_tenant_that_comes_back_has_no_claim_for_the_time_it_was_away(order: FileOrder[str]) -> None:
    add(order, (f"busy-{number}" for number in range(40)), MIB, tenant="busy")
    for _ in range(20):
        order.end(begin(order) or "")
    add(order, (f"back-{number}" for number in range(20)), MIB, tenant="back")

    ran = run_all(order)

    assert abs(sum(key.startswith("busy") for key in ran[:10]) - 5) <= 1


def test_work_on_the_same_input_goes_one_after_the_other(order: FileOrder[str]) -> None:
    add(order, ("first", "second"), LARGE_BYTES, blob="files/one")
    add(order, ("other",), LARGE_BYTES, blob="files/other")

    at_once = begin_all(order)
    order.end("first")

    assert at_once == ["first", "other"]
    assert begin_all(order) == ["second"]


def test_work_is_there_once_however_often_it_is_added(order: FileOrder[str]) -> None:
    add(order, ("one", "one"), 10)
    begun = begin_all(order)
    add(order, ("one",), 10)

    assert begun == ["one"]
    assert begin_all(order) == []
    assert order.has("one")


def test_nothing_is_kept_of_a_tenant_without_work(order: FileOrder[str]) -> None:
    for number in range(100):
        add(order, (f"each-{number}",), 10, tenant=f"tenant-{number}")
        run_all(order)

    assert order.tenants == 0
