"""Whole batches over each way to reach a broker."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.lifecycle import Status
from tests.integration.brokers import WatchedServers, folder_of_its_own, make_certificate, open_server, tls_before
from tests.integration.pipeline import Pipeline, request_lines

pytestmark = pytest.mark.integration

_LINES = 60


@pytest.fixture
def sentinels() -> Iterator[WatchedServers]:
    with folder_of_its_own() as folder:
        servers = WatchedServers(folder)
        try:
            yield servers
        finally:
            servers.end()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command makes the certificate")
def test_a_batch_runs_over_tls_with_a_password(tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path)
    with open_server("--requirepass", "hush:@/") as port, tls_before(port, context) as tls_port:
        url = f"rediss://:hush%3A%40%2F@127.0.0.1:{tls_port}/3?ssl_ca_certs={certificate}"

        _run_a_batch(Pipeline(None, broker_url=url))


def test_a_batch_runs_for_a_user_who_may_use_the_keys_of_wylon_alone() -> None:
    with open_server("--user", "limited", "on", ">hush", "~wylon:*", "resetchannels", "+@all") as port:
        _run_a_batch(Pipeline(None, broker_url=f"redis://limited:hush@127.0.0.1:{port}/0"))


def test_work_goes_on_after_the_sentinels_made_the_replica_the_primary(sentinels: WatchedServers) -> None:
    pipeline = Pipeline(None, broker_url=sentinels.url)
    try:
        pipeline.start("control", "files", "worker-1", "beat")
        batch_id = pipeline.submit(request_lines(_LINES, "[[sleep:300]]"))
        pipeline.await_recorded(batch_id, 5)

        sentinels.primary.kill()

        batch = pipeline.await_end(batch_id)
        assert (batch.status, batch.completed) == (Status.COMPLETED, _LINES)
        later = pipeline.await_end(pipeline.submit(request_lines(5)))
        assert (later.status, later.completed) == (Status.COMPLETED, 5)
    finally:
        pipeline.end()


def _run_a_batch(pipeline: Pipeline) -> None:
    try:
        pipeline.start("control", "files", "worker-1", "beat")
        batch = pipeline.await_end(pipeline.submit(request_lines(_LINES)))
        assert (batch.status, batch.completed) == (Status.COMPLETED, _LINES)
    finally:
        pipeline.end()
