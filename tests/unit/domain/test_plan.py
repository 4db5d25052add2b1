import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import MAX_LINES
from app.domain.plan import ENTRY_BYTES, PlanEntry, Span, lines_per_task, pack_entry, task_span, unpack_entries

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
entries = st.builds(PlanEntry, number=U32, offset=U64, length=U32, upstream=U16, prefix_hash=U64)


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
