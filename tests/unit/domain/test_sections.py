"""The sections of a batch, whose lines may go to several upstreams: its tasks and its lines, by upstream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.batch import Batch, Section, cut_into_sections
from app.services.dispatch import line_tasks
from tests.unit.services.pipeline_house import new_batch

counts = st.lists(st.integers(1, 300), min_size=1, max_size=6)
per_tasks = st.integers(1, 120)


def mixed_batch(lines: list[int], per_task: int) -> Batch:
    """Return a batch with so many lines for each of some upstreams."""
    sections = cut_into_sections([(f"upstream-{place}", count) for place, count in enumerate(lines)], per_task)
    return new_batch(total=sum(lines), lines_per_task=per_task, sections=sections)


@given(counts, per_tasks)
def test_tasks_of_all_sections_cover_every_line_once(lines: list[int], per_task: int) -> None:
    batch = mixed_batch(lines, per_task)

    tasks = line_tasks(batch, range(batch.tasks))

    assert [position for _, first, end in tasks for position in range(first, end)] == list(range(sum(lines)))
    assert all(0 < end - first <= per_task for _, first, end in tasks)


@given(counts, per_tasks)
def test_no_task_has_lines_of_two_sections(lines: list[int], per_task: int) -> None:
    batch = mixed_batch(lines, per_task)

    for section in batch.sections:
        tasks = line_tasks(batch, range(section.first_task, section.end_task))
        assert (tasks[0].first, tasks[-1].end) == (section.first_line, section.end_line)


@given(counts, per_tasks)
def test_sections_follow_each_other_in_the_order_they_were_given(lines: list[int], per_task: int) -> None:
    mixed = mixed_batch(lines, per_task).sections

    assert [section.upstream for section in mixed] == [f"upstream-{place}" for place in range(len(lines))]
    assert [section.end_line - section.first_line for section in mixed] == lines
    assert [section.end_task - section.first_task for section in mixed] == [-(-count // per_task) for count in lines]
    for before, after in pairwise(mixed):
        assert (after.first_task, after.first_line) == (before.end_task, before.end_line)


@given(counts, per_tasks)
def test_a_batch_that_was_just_cut_has_all_its_lines_waiting(lines: list[int], per_task: int) -> None:
    batch = mixed_batch(lines, per_task)

    assert [section.waiting(per_task) for section in batch.sections] == lines
    assert batch.lines_outstanding == 0


def test_each_section_ends_with_a_task_that_may_be_short() -> None:
    assert cut_into_sections([("gpu", 51), ("cpu", 51)], 50) == (
        Section("gpu", 0, 2, 0, 51, next_task=0),
        Section("cpu", 2, 4, 51, 102, next_task=2),
    )


def test_a_batch_of_one_upstream_is_one_section() -> None:
    assert mixed_batch([10], 4).sections == (Section("upstream-0", 0, 3, 0, 10, next_task=0),)


def test_short_tasks_within_a_mixed_batch_make_it_more_tasks() -> None:
    assert mixed_batch([51, 51], 50).tasks == 4
    assert mixed_batch([102], 50).tasks == 3


@pytest.mark.parametrize(
    ("gpu_next", "cpu_next", "lines"), [(0, 2, 0), (1, 2, 50), (2, 2, 51), (2, 3, 101), (0, 4, 51), (2, 4, 102)]
)
def test_lines_outstanding_are_those_of_each_sections_tasks(gpu_next: int, cpu_next: int, lines: int) -> None:
    gpu, cpu = cut_into_sections([("gpu", 51), ("cpu", 51)], 50)
    sections = (gpu._replace(next_task=gpu_next), cpu._replace(next_task=cpu_next))

    batch = new_batch(total=102, lines_per_task=50, sections=sections)

    assert batch.lines_outstanding == lines
    assert sum(section.waiting(50) for section in batch.sections) == 102 - lines


def test_what_a_section_has_outstanding_is_what_it_sent_without_a_result() -> None:
    gpu, _ = cut_into_sections([("gpu", 51), ("cpu", 51)], 50)

    assert gpu._replace(next_task=2, recorded=20).outstanding(50) == 31
    # A task that upkeep had sent again may bring results before the cursor is seen to move.
    assert gpu._replace(next_task=0, recorded=20).outstanding(50) == 0
