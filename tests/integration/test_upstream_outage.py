"""An upstream that nobody reaches: lines wait for it until their window ends, and go on where it comes back.

OUTAGE_S in the environment is how long all of it is down, 6 seconds where it is left out; OUTAGE_LINES is how many
lines wait for it.
"""

import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.domain.lifecycle import Status
from app.domain.retry import RetryPolicy
from tests.integration.pipeline import custom_ids, request_lines
from tests.integration.processes import START_WITHIN_S, WYLON, Process, environ_of, until
from tests.integration.upstream_faults import (
    CONCURRENCY,
    FULL,
    NO_TLS,
    OUT_OF_TIME,
    SERVER_FAULTS,
    UNTRUSTED,
    FaultyPipeline,
    ServerFault,
    record_of,
)
from tests.unit.adapters.test_upstream_tls import make_certificate

OUTAGE_S = float(os.environ.get("OUTAGE_S", "6"))
LINES = int(os.environ.get("OUTAGE_LINES", "60"))
# A line whose pause began just before the upstream came back waits that long; the rest is the work and a busy machine.
BACK_WITHIN_S = RetryPolicy().cap_s + 60.0
pytestmark = [pytest.mark.integration, pytest.mark.timeout(OUTAGE_S + BACK_WITHIN_S + START_WITHIN_S)]

# Of a server that is out of order a few lines tell.
FEW_LINES = 3
SHORT_WINDOW_S = 3
SHORT_WINDOW = f"{SHORT_WINDOW_S}s"
TLS = {UNTRUSTED, NO_TLS}


@pytest.fixture(scope="module")
def pipeline() -> Iterator[FaultyPipeline]:
    pipeline = FaultyPipeline()
    pipeline.set_up(COMPLETION_WINDOWS=f"24h,{SHORT_WINDOW}")
    try:
        pipeline.start("control", "files", "beat")
        yield pipeline
    finally:
        pipeline.end()


class Server:
    """The address of an upstream at which first a fault is, then a server that works."""

    def __init__(self, pipeline: FaultyPipeline, folder: Path, fault: ServerFault, stack: ExitStack) -> None:
        self._pipeline = pipeline
        self._fault = fault
        self._options: tuple[str, ...] = ()
        self._trust: ssl.SSLContext | bool = True
        self._faulty = stack.enter_context(ExitStack())
        self._holding = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self._holding.getsockname()[1]
        if fault in TLS:
            (folder / "good").mkdir()
            certificate, _ = make_certificate(folder / "good", "IP:127.0.0.1")
            self._options = ("--certificate", str(certificate), "--key", str(folder / "good" / "key.pem"))
            self._trust = ssl.create_default_context(cafile=certificate)
            pipeline.trust(certificate)
        if fault is FULL:
            self._faulty.enter_context(self._holding)
            # What waits to be accepted fills the backlog: the system drops who else asks.
            for _ in range(2):
                waiting = self._faulty.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", self.port))
            return
        self._holding.close()
        if fault is NO_TLS:
            self._start()
        elif fault is UNTRUSTED:
            (folder / "other").mkdir()
            other, _ = make_certificate(folder / "other", "IP:127.0.0.1")
            self._start("--certificate", str(other), "--key", str(folder / "other" / "key.pem"))

    @property
    def url(self) -> str:
        return f"{'https' if self._fault in TLS else 'http'}://127.0.0.1:{self.port}"

    def mend(self) -> None:
        self._faulty.close()
        self._start(*self._options)

    def stats(self) -> dict[str, object]:
        found: dict[str, object] = httpx.get(f"{self.url}/stats", verify=self._trust, trust_env=False).json()
        return found

    def _start(self, *options: str) -> None:
        command = [WYLON, "upstream", "--port", str(self.port), "--track", *options]
        log = self._pipeline.folder / f"mended-{time.monotonic_ns()}.log"
        process = Process(command, log, environ_of({}), self._pipeline.folder)
        self._pipeline.processes[log.stem] = process
        self._faulty.callback(process.end)
        until(lambda: "ready " in process.said(), START_WITHIN_S, "the upstream is ready")


@pytest.mark.parametrize("fault", SERVER_FAULTS, ids=lambda fault: fault.name)
def test_lines_that_reach_no_server_are_tried_until_their_window_ends_or_it_is_mended(
    pipeline: FaultyPipeline, tmp_path: Path, fault: ServerFault
) -> None:
    if fault in TLS and shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificates")
    with ExitStack() as stack:
        server = Server(pipeline, tmp_path, fault, stack)
        pipeline.set_up(UPSTREAM_URL=f"{server.url}/v1")
        worker = f"worker-{SERVER_FAULTS.index(fault)}"
        pipeline.start(worker)
        stack.callback(pipeline.processes[worker].end)
        late = pipeline.submit(request_lines(FEW_LINES, "late"), window=SHORT_WINDOW)
        patient = pipeline.submit(request_lines(FEW_LINES, "patient"))

        expired = pipeline.await_end(late)
        errors = pipeline.lines_of(expired.error_file_id)
        waiting = pipeline.batch(patient)
        away = pipeline.away(worker)
        server.mend()
        completed = pipeline.await_end(patient)

        assert expired.status is Status.EXPIRED
        assert expired.output_file_id is None
        records = [record_of(line, is_answered=False) for line in errors]
        assert [record._replace(says=OUT_OF_TIME.says) for record in records] == [OUT_OF_TIME] * FEW_LINES
        # The file says why, and not the log alone.
        assert [record.says for record in records if fault.says not in record.says] == []
        assert (waiting.status, waiting.recorded) == (Status.IN_PROGRESS, 0)
        assert (completed.status, completed.completed) == (Status.COMPLETED, FEW_LINES)
        assert server.stats()["requests"] == FEW_LINES
        # One a minute, and not one for each line that waits.
        assert len(away) == 1
        assert fault.says in away[0]["error"]


def test_a_batch_outlives_an_outage_of_the_whole_upstream(
    pipeline: FaultyPipeline, record_property: Callable[[str, object], None]
) -> None:
    address = pipeline.processes["upstream"].await_address()
    pipeline.set_up(UPSTREAM_URL=address)
    pipeline.start("worker-outage")
    batch_id = pipeline.submit(request_lines(LINES, "[[sleep:200]]"))
    pipeline.await_recorded(batch_id, 20)

    pipeline.processes["upstream"].kill()
    back_at = time.monotonic() + OUTAGE_S
    until(lambda: time.monotonic() >= back_at, OUTAGE_S + 5, "the outage is over")
    away = pipeline.batch(batch_id)
    pipeline.restart_upstream()
    came_back_at = time.monotonic()
    pipeline.await_recorded(batch_id, away.recorded + 1)
    first_after_s = time.monotonic() - came_back_at
    until(lambda: pipeline.batch(batch_id).recorded == LINES, BACK_WITHIN_S, "all lines are recorded")
    last_after_s = time.monotonic() - came_back_at
    batch = pipeline.await_end(batch_id)

    record_property("first_after_s", round(first_after_s, 1))
    record_property("last_after_s", round(last_after_s, 1))
    assert (away.status, away.failed) == (Status.IN_PROGRESS, 0)
    assert away.recorded < LINES
    assert (batch.status, batch.completed, batch.error_file_id) == (Status.COMPLETED, LINES, None)
    assert custom_ids(pipeline.lines_of(batch.output_file_id)) == [f"id-{number}" for number in range(LINES)]
    # The server that came back gets each line without a result once. A check call, which may follow a probe that failed
    # just before, has no mark.
    stats = pipeline.upstream_stats()
    assert stats["by_fault"]["sleep"] == LINES - away.recorded
    assert stats["max_in_flight"] <= CONCURRENCY
