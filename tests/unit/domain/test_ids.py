import re
from collections.abc import Callable

import pytest

from app.domain import ids


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (ids.new_batch_id, r"batch_[0-9a-f]{32}"),
        (ids.new_file_id, r"file-[0-9a-f]{32}"),
        (ids.new_request_id, r"req_[0-9a-f]{32}"),
        (ids.new_token, r"[0-9a-f]{16}"),
    ],
)
def test_new_ids_have_their_shape_and_differ(make: Callable[[], str], shape: str) -> None:
    made = {make() for _ in range(100)}

    assert len(made) == 100
    assert all(re.fullmatch(shape, one) for one in made)


def test_derived_ids_are_the_same_in_every_process_and_release() -> None:
    # Batches that run while an operator updates are published under these: they must not change.
    assert ids.group_id("batch_1") == "243cce8f-1cca-5ca7-9d6a-7cc087740b9d"
    assert ids.task_id("batch_1", 7) == "cbbb9f2c-0051-5b27-b4ff-aed5c54f63e6"
    assert ids.line_request_id("batch_1", 7) == "batch_req_6e0086c46b7ad2620783c87e6ea08a1e"


def test_derived_ids_differ_by_batch_and_by_number() -> None:
    made = {ids.task_id(batch_id, number) for batch_id in ("batch_1", "batch_2") for number in range(50)}

    assert len(made | {ids.group_id("batch_1"), ids.group_id("batch_2")}) == 102
