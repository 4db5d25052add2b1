"""The stand-in upstream in a process of its own, and calls to it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

CHAT = "/v1/chat/completions"


@contextmanager
def stand_in(*options: str) -> Iterator[httpx.Client]:
    """Run `wylon upstream` on a free port; yields a client for it."""
    command = [sys.executable, "-c", "from app.cli.main import main; main()", "upstream", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready, _, url = process.stdout.readline().strip().partition(" ")
        assert ready == "ready"
        try:
            with httpx.Client(base_url=url.removesuffix("/v1"), timeout=20.0) as client:
                yield client
        finally:
            process.terminate()
            assert process.wait(10) == 0


def ask(client: httpx.Client, content: str) -> httpx.Response:
    """Send one chat request."""
    return client.post(CHAT, json={"model": "m1", "messages": [{"role": "user", "content": content}]})
