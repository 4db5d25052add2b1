"""The model server of the chaos suite: answers every line by the line's marker and writes each call down."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil
from aiohttp import web

from tests.chaos.backstage import Backstage
from tests.chaos.ledger import Call, Hit, Ledger

OK = "ok"
REFUSED = "refused"
GARBLED = "garbled"
POISON = "poison"

# The content of check calls.
_CHECK = "Hi"
_MAX_BODY_BYTES = 1 << 20


class ModelServer:
    """Serves `/v1`, and knows the process at the other end of each connection."""

    def __init__(self, backstage: Backstage, worker_pids: Callable[[], Iterable[int]]) -> None:
        self._backstage = backstage
        self._worker_pids = worker_pids
        self._callers: dict[asyncio.BaseTransport, int | None] = {}
        self.ledger = Ledger()
        # The processes killed by poisoned lines.
        self.poisoned: list[Hit] = []
        self._port, self._runner = backstage.run(self._start())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def close(self) -> None:
        self._backstage.run(self._runner.cleanup())

    async def _start(self) -> tuple[int, web.AppRunner]:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", self._list_models)
        # A caller that goes away ends its call in the ledger, too.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner.addresses[0][1], runner

    async def _list_models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "echo", "object": "model"}]})

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        content = json.loads(body)["messages"][0]["content"]
        if content == _CHECK:
            return _response(_CHECK, OK)
        marker, latency_ms, kind = content.split()
        pid = await self._caller(request)
        call = self.ledger.open(marker, pid)
        is_broken = True
        try:
            if kind == POISON and pid is not None:
                self._kill(pid)
            await asyncio.sleep(int(latency_ms) / 1000)
            is_broken = False
        finally:
            self.ledger.end(call, is_broken=is_broken)
        return _response(marker, kind)

    async def _caller(self, request: web.Request) -> int | None:
        """Return the id of the process that calls, looked up once for each connection."""
        transport = request.transport
        if transport is None:
            return None
        if transport not in self._callers:
            ends = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
            self._callers[transport] = None
            self._callers[transport] = await asyncio.get_running_loop().run_in_executor(None, self._owner_of, *ends)
            for gone in [known for known in self._callers if known.is_closing()]:
                del self._callers[gone]
        return self._callers.get(transport)

    def _owner_of(self, caller: tuple[str, int], server: tuple[str, int]) -> int | None:
        for pid in self._worker_pids():
            with suppress(psutil.Error):
                for connection in psutil.Process(pid).net_connections("tcp4"):
                    # Another process may have the same port at its end of a connection to somewhere else.
                    if (connection.laddr, connection.raddr) == (caller, server):
                        return pid
        return None

    def _kill(self, pid: int) -> None:
        now = time.monotonic()
        self.poisoned.append(Hit(pid, now, now))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _response(marker: str, kind: str) -> web.Response:
    if kind == REFUSED:
        return web.json_response({"error": {"message": marker, "type": "invalid_request_error"}}, status=400)
    if kind == GARBLED:
        return web.Response(text="<html>", content_type="text/html")
    message = {"role": "assistant", "content": marker}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return web.json_response({"id": marker, "choices": [{"index": 0, "message": message}], "usage": usage})


def open_calls(ledger: Ledger, pid: int, at: float) -> list[Call]:
    """Return the calls of a process open at this instant."""
    return [call for call in ledger.all() if call.pid == pid and call.was_open(at)]
