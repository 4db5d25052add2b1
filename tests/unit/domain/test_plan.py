import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import MAX_LINES
from app.domain.plan import (
    ENTRY_BYTES,
    PlanEntry,
    Span,
    input_order,
    lines_per_task,
    pack_entry,
    put_alike_together,
    task_span,
    unpack_entries,
)

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
entries = st.builds(PlanEntry, number=U32, offset=U64, length=U32, upstream=U16, prefix_hash=U64, model_hash=U16)


@given(st.lists(entries))
def test_entries_come_back_as_they_were_packed(packed: list[PlanEntry]) -> None:
    data = b"".join(map(pack_entry, packed))

    assert len(data) == len(packed) * ENTRY_BYTES
    assert list(unpack_entries(data)) == packed


@given(total=st.integers(1, 3_000), per_task=st.integers(1, 3_000))
def test_tasks_cover_every_line_once(total: int, per_task: int) -> None:
    tasks = -(-total // per_task)

    spans = [task_span(number, per_task, total) for number in range(tasks)]

    assert [position for span in spans for position in range(*span)] == list(range(total))


@pytest.mark.parametrize(("lines", "expected"), [(1, 1), (1_000, 1), (1_001, 2), (2_000, 2), (50_000, 50)])
def test_a_batch_is_cut_into_about_a_thousand_tasks(lines: int, expected: int) -> None:
    assert lines_per_task(lines, None) == expected


@given(st.integers(1, MAX_LINES))
def test_no_batch_has_more_than_a_thousand_tasks(lines: int) -> None:
    assert -(-lines // lines_per_task(lines, None)) <= 1_000


def test_an_operator_pins_the_lines_per_task() -> None:
    assert lines_per_task(50_000, 1) == 1


def test_the_last_task_ends_with_the_plan() -> None:
    assert task_span(3, 3, 10) == Span(9, 10)


@given(st.lists(entries, unique_by=lambda entry: entry.number))
def test_the_order_of_the_file_is_found_again(packed: list[PlanEntry]) -> None:
    order = input_order(b"".join(map(pack_entry, packed)))

    in_file = packed if order is None else [packed[position] for position in order]
    assert in_file == sorted(packed, key=lambda entry: entry.number)
    assert order is None or in_file != packed


def test_lines_that_begin_alike_are_put_together() -> None:
    packed = [PlanEntry(number, number * 10, 9, prefix_hash=number % 2) for number in range(6)]
    plan = b"".join(map(pack_entry, packed))

    together = put_alike_together(plan, 1)

    assert [entry.number for entry in unpack_entries(together)] == [0, 2, 4, 1, 3, 5]
    assert sorted(unpack_entries(together)) == packed
    assert input_order(together) == [0, 3, 1, 4, 2, 5]


def test_a_plan_of_lines_that_share_nothing_stays_as_it_is() -> None:
    plan = b"".join(pack_entry(PlanEntry(number, 0, 9, prefix_hash=number)) for number in range(6))

    assert put_alike_together(plan, 4) == plan
    assert put_alike_together(b"", 4) == b""
