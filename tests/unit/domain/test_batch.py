import pytest

from app.domain.batch import Batch, cut_into_sections
from app.domain.lifecycle import Status


def batch(total: int, per_task: int, sent: int = 0, recorded: int = 0) -> Batch:
    """Return a batch for one upstream, of which so many tasks were sent and so many lines have a result."""
    fields = {"total": total, "lines_per_task": per_task, "completed": recorded}
    (section,) = cut_into_sections([("default", total)], per_task)
    sections = (section._replace(next_task=sent, recorded=recorded),)
    status = Status.IN_PROGRESS
    return Batch("batch_1", "t", "/v1/embeddings", "file-1", "24h", status, 0.0, 1.0, sections=sections, **fields)


@pytest.mark.parametrize(("total", "per_task", "tasks"), [(1, 1, 1), (10, 3, 4), (9, 3, 3), (1, 50, 1)])
def test_a_batch_is_cut_into_tasks_the_last_of_which_may_be_short(total: int, per_task: int, tasks: int) -> None:
    assert batch(total, per_task).tasks == tasks


def test_lines_outstanding_are_those_sent_without_a_result() -> None:
    running = batch(10, 4, sent=2, recorded=4)

    assert (running.recorded, running.tasks_dispatched, running.lines_outstanding) == (4, 2, 4)


def test_no_more_lines_are_sent_than_there_are() -> None:
    assert batch(10, 4, sent=3).lines_outstanding == 10
