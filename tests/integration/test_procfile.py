"""The Procfile as it is shipped, run by honcho, with a broker and a database that are already there."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from openai import DefaultHttpxClient, OpenAI

from app.cli.up.broker import embed_broker
from tests.e2e.deployed import await_end, submit
from tests.integration.pipeline import request_lines
from tests.integration.processes import Process, environ_of, start_upstream, until

ROOT = Path(__file__).parents[2]
KEY = "wy-procfile"
# Six Python processes that start at once on a busy machine.
UP_WITHIN_S = 90.0


@pytest.fixture
def honcho(tmp_path: Path) -> Iterator[tuple[Process, str]]:
    broker = embed_broker(tmp_path)
    port = _free_port()
    running = [Process(broker.command(), tmp_path / "broker.log", environ_of({}), tmp_path)]
    upstream, upstream_url = start_upstream(tmp_path)
    running.append(upstream)
    environ = environ_of(
        {
            "DATA": tmp_path / "data",
            "PORT": port,
            "API_KEY": KEY,
            "BROKER_URL": broker.url,
            "UPSTREAM_URL": upstream_url,
        }
    )
    # `python` and `wylon` are those of this environment.
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    command = [sys.executable, "-m", "honcho", "-f", str(ROOT / "Procfile"), "-d", str(ROOT), "start"]
    started = Process(command, tmp_path / "honcho.log", environ, tmp_path)
    running.append(started)
    try:
        yield started, f"http://127.0.0.1:{port}"
    finally:
        for process in reversed(running):
            process.end()
        broker.clean_up()


def test_the_procfile_as_shipped_runs_a_batch_and_ends_whole(honcho: tuple[Process, str]) -> None:
    process, url = honcho
    until(lambda: _is_ready(url), UP_WITHIN_S, "the API is ready")
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=DefaultHttpxClient(trust_env=False)) as client:
        batch = await_end(client, submit(client, request_lines(20)).id)

    assert batch.status == "completed"
    assert process.exit_code is None
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate(within_s=30)
    _, alive = psutil.wait_procs(children, 10)
    assert alive == []


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
