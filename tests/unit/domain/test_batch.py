import pytest

from app.domain.batch import Batch
from app.domain.lifecycle import Status


def batch(**fields: int) -> Batch:
    return Batch("batch_1", "t", "/v1/embeddings", "file-1", "24h", Status.IN_PROGRESS, 0.0, 1.0, **fields)


@pytest.mark.parametrize(("total", "per_task", "tasks"), [(0, 1, 0), (1, 1, 1), (10, 3, 4), (9, 3, 3), (1, 50, 1)])
def test_a_batch_is_cut_into_tasks_the_last_of_which_may_be_short(total: int, per_task: int, tasks: int) -> None:
    assert batch(total=total, lines_per_task=per_task).tasks == tasks


def test_lines_outstanding_are_those_sent_without_a_result() -> None:
    running = batch(total=10, lines_per_task=4, tasks_dispatched=2, completed=3, failed=1)

    assert (running.recorded, running.lines_dispatched, running.lines_outstanding) == (4, 8, 4)


def test_no_more_lines_are_sent_than_there_are() -> None:
    assert batch(total=10, lines_per_task=4, tasks_dispatched=3).lines_dispatched == 10
