"""What other programs' variables do to a deployment: nothing."""

import pytest

from app.domain.lifecycle import Status
from tests.integration.pipeline import Pipeline, request_lines

pytestmark = pytest.mark.integration

FOREIGN = {
    "BROKER_URL": "redis://:hush@127.0.0.1:1/0",
    "CELERY_BEAT_SCHEDULER": "somebodys:Scheduler",
    "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/0",
    "CELERY_BROKER_URL": "redis://:hush@127.0.0.1:1/0",
    "CELERY_BROKER_WRITE_URL": "redis://127.0.0.1:1/0",
    "CELERY_CONFIG_MODULE": "no_such_module",
    "CELERY_LOADER": "no_such_module:Loader",
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0",
    "CELERY_WORKER_CONCURRENCY": "1",
    "CELERY_WORKER_POOL": "solo",
    "RESULT_BACKEND": "redis://127.0.0.1:1/0",
}


def test_batches_run_whatever_celery_would_read_and_each_process_says_what_it_left_out() -> None:
    pipeline = Pipeline(None, environ=FOREIGN)
    try:
        pipeline.start("control", "files", "worker-1", "beat")

        batch = pipeline.await_end(pipeline.submit(request_lines(30)))

        assert (batch.status, batch.completed) == (Status.COMPLETED, 30)
        for name in ("control", "files", "worker-1", "beat"):
            said = pipeline.processes[name].said()
            assert "environment.left_out" in said
            assert "CELERY_BROKER_URL" in said
            assert "hush" not in said
    finally:
        pipeline.end()
