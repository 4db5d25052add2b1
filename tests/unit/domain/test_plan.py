import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.batch import cut_into_sections
from app.domain.limits import MAX_LINES
from app.domain.plan import (
    ENTRY_BYTES,
    PlanEntry,
    input_order,
    lines_per_task,
    pack_entry,
    put_alike_together,
    put_upstreams_apart,
    unpack_entries,
)
from app.services.dispatch import line_tasks
from tests.unit.services.pipeline_house import new_batch

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
entries = st.builds(
    PlanEntry, number=U32, offset=U64, length=U32, upstream=U16, prefix_hash=U64, model_hash=U16, tokens=U32
)


@given(st.lists(entries))
def test_entries_come_back_as_they_were_packed(packed: list[PlanEntry]) -> None:
    data = b"".join(map(pack_entry, packed))

    assert len(data) == len(packed) * ENTRY_BYTES
    assert list(unpack_entries(data)) == packed


@given(total=st.integers(1, 3_000), per_task=st.integers(1, 3_000))
def test_tasks_cover_every_line_once(total: int, per_task: int) -> None:
    sections = cut_into_sections([("default", total)], per_task)
    batch = new_batch("batch_1", total=total, lines_per_task=per_task, sections=sections)

    tasks = line_tasks(batch, range(batch.tasks))

    assert [position for _, first, end in tasks for position in range(first, end)] == list(range(total))


@pytest.mark.parametrize(("lines", "expected"), [(1, 1), (1_000, 1), (1_001, 2), (2_000, 2), (50_000, 50)])
def test_a_batch_is_cut_into_about_a_thousand_tasks(lines: int, expected: int) -> None:
    assert lines_per_task(lines, None) == expected


@given(st.integers(1, MAX_LINES))
def test_no_batch_has_more_than_a_thousand_tasks(lines: int) -> None:
    assert -(-lines // lines_per_task(lines, None)) <= 1_000


def test_an_operator_pins_the_lines_per_task() -> None:
    assert lines_per_task(50_000, 1) == 1


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


def entries_of(upstreams: int, prefixes: int) -> st.SearchStrategy[PlanEntry]:
    """Return entries for few upstreams, of which few begin alike."""
    return st.builds(
        PlanEntry,
        number=U32,
        offset=U64,
        length=U32,
        upstream=st.integers(0, upstreams - 1),
        prefix_hash=st.integers(0, prefixes - 1),
        model_hash=st.integers(0, 1),
        tokens=U32,
    )


@given(st.lists(entries_of(upstreams=5, prefixes=4), min_size=1))
def test_lines_for_an_upstream_follow_each_other_in_the_order_they_had(packed: list[PlanEntry]) -> None:
    apart, counts = put_upstreams_apart(bytearray(b"".join(map(pack_entry, packed))))

    by_upstream = [[entry for entry in packed if entry.upstream == upstream] for upstream in range(len(counts))]
    assert list(unpack_entries(bytes(apart))) == [entry for each in by_upstream for entry in each]
    assert counts == [len(each) for each in by_upstream]


def test_a_plan_for_one_upstream_is_not_copied() -> None:
    plan = bytearray(pack_entry(PlanEntry(1, 0, 9)) + pack_entry(PlanEntry(2, 10, 9)))

    apart, counts = put_upstreams_apart(plan)

    assert apart is plan
    assert counts == [2]


@given(
    st.lists(entries_of(upstreams=3, prefixes=4), min_size=1, unique_by=lambda entry: entry.number), st.integers(1, 3)
)
def test_the_order_of_the_file_is_found_again_behind_upstreams_put_apart_and_prefixes_together(
    shuffled: list[PlanEntry], groups_at_once: int
) -> None:
    in_file = sorted(shuffled, key=lambda entry: entry.number)
    apart, counts = put_upstreams_apart(bytearray(b"".join(map(pack_entry, in_file))))
    ends = [sum(counts[: place + 1]) * ENTRY_BYTES for place in range(len(counts))]
    pieces = [apart[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    plan = b"".join(put_alike_together(piece, groups_at_once) for piece in pieces)

    order = input_order(plan)

    planned = list(unpack_entries(plan))
    assert (planned if order is None else [planned[position] for position in order]) == in_file
