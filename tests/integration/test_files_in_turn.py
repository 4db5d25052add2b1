"""A process of files: large inputs beside small ones, and a process that dies amid one."""

from collections.abc import Iterator

import pytest

from app.domain.lifecycle import Status
from app.domain.limits import MIB
from app.services.batches import BatchRequest
from tests.integration.pipeline import CHAT, TENANT, Pipeline, request_line, request_lines
from tests.integration.processes import until

pytestmark = pytest.mark.integration

LARGE_FILES = 8
# More than a fair share of the time would leave: first in, first out, four at once would check half of them first.
LARGE_LEFT = 5
# A killed process is missed after 5 s, at the next look of upkeep, which is 3 s apart. It took up to a minute.
FOLLOWED_WITHIN_S = 30.0
WITHIN_S = 60.0


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(None)
    pipeline.start("control", "files", "worker-1", "beat")
    yield pipeline
    pipeline.end()


def dear_lines(count: int) -> list[bytes]:
    """Return lines that take as much of the processor for each byte as any."""
    arrays = b"[" * 90 + b"]" * 90
    content = b",".join([arrays] * (7 * MIB // len(arrays)))
    return [request_line(f"id-{number}", "x").replace(b'"x"', b"[%b]" % content) for number in range(count)]


def upload(pipeline: Pipeline, lines: list[bytes]) -> str:
    new = pipeline.files.begin()
    new.write(b"\n".join(lines))
    return pipeline.files.create(TENANT, new, purpose="batch", filename="in.jsonl").id


def create(pipeline: Pipeline, file_id: str) -> str:
    return pipeline.batches.create(TENANT, BatchRequest(file_id, CHAT, "24h")).id


def test_a_small_batch_is_validated_beside_large_files(pipeline: Pipeline) -> None:
    large_files = [upload(pipeline, dear_lines(2)) for _ in range(LARGE_FILES)]
    small_file = upload(pipeline, request_lines(10))

    large = [create(pipeline, file_id) for file_id in large_files]
    small = create(pipeline, small_file)
    until(lambda: pipeline.batch(small).status is not Status.VALIDATING, WITHIN_S, "the small batch is validated")

    left = [batch_id for batch_id in large if pipeline.batch(batch_id).status is Status.VALIDATING]
    assert len(left) >= LARGE_LEFT
    for batch_id in left:
        pipeline.batches.cancel(TENANT, batch_id)


def test_a_batch_whose_validator_was_killed_goes_on_soon(pipeline: Pipeline) -> None:
    batch_id = create(pipeline, upload(pipeline, dear_lines(20)))
    until(lambda: pipeline.batch(batch_id).lease_owner, WITHIN_S, "the validation has begun", every_s=0.01)

    pipeline.processes["files"].kill()
    assert pipeline.batch(batch_id).status is Status.VALIDATING
    pipeline.start("files")

    until(lambda: pipeline.batch(batch_id).status is Status.IN_PROGRESS, FOLLOWED_WITHIN_S, "another goes on")
    pipeline.batches.cancel(TENANT, batch_id)
