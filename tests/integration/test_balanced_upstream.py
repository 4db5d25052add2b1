"""Three servers as one upstream: one is killed and comes back while calls go on; all lack a model that some ask for."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.adapters.upstream.balanced import BalancedUpstream
from app.adapters.upstream.client import HttpUpstream
from app.domain.retry import Trouble
from app.services.ports import ANYBODY, Answer, Caller
from tests.integration.processes import START_WITHIN_S, Process, start_upstream
from tests.unit.adapters.upstream_server import CHAT, on_uvloop

pytestmark = pytest.mark.integration

SERVERS = 3
CALLERS = 24
# The pauses before the first three probes take 5 s at the least; a busy machine is given more.
WITHIN_S = 40.0
LOOK_EVERY_S = 0.02


class CountedUpstream(HttpUpstream):
    """A client that counts its calls."""

    def __init__(self, url: str) -> None:
        super().__init__(url, api_key=None, connect_timeout_s=5.0, first_byte_timeout_s=30.0)
        self.count = 0

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        self.count += 1
        return await super().call(endpoint, body, timeout_s, caller)


class Servers:
    """The stand-ins, each at an address that stays its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []
        self.urls: list[str] = []
        for _ in range(SERVERS):
            process, url = start_upstream(folder)
            self._processes.append(process)
            self.urls.append(url)

    def kill(self, number: int) -> None:
        self._processes[number].kill()

    def restart(self, number: int) -> None:
        process, _ = start_upstream(self._folder, port=urlsplit(self.urls[number]).port or 0)
        self._processes[number] = process

    def end(self) -> None:
        for process in self._processes:
            process.end()

    def stats(self, number: int) -> dict[str, int]:
        url = self.urls[number].removesuffix("/v1")
        found: dict[str, int] = httpx.get(f"{url}/stats", trust_env=False).json()
        return found


class Calls:
    """Callers that each make one call after the other.

    Args:
        upstream: what they call.
        directive: what the stand-in is to do with each call.
        rest_s: how long each rests after a call that was not answered.
        model: the model that they ask for.
    """

    def __init__(
        self, upstream: BalancedUpstream, directive: str = "[[sleep:10]]", rest_s: float = 0.0, model: str = "small"
    ) -> None:
        self._upstream = upstream
        messages = [{"role": "user", "content": directive}]
        self._body = json.dumps({"model": model, "messages": messages}).encode()
        self._rest_s = rest_s
        self.answered = 0
        self.troubles: Counter[Trouble] = Counter()

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        is_over = asyncio.Event()
        callers = [asyncio.ensure_future(self._call_until(is_over)) for _ in range(CALLERS)]
        try:
            yield
        finally:
            is_over.set()
            await asyncio.gather(*callers)

    async def _call_until(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            answer = await self._upstream.call(CHAT, self._body, 30.0)
            if answer.trouble is Trouble.NONE:
                self.answered += 1
            else:
                self.troubles[answer.trouble] += 1
                # The pause that a line makes after a refusal: part of the load, nothing is waited for.
                await asyncio.sleep(self._rest_s)


async def until(look: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WITHIN_S
    while not look():
        assert loop.time() < deadline, f"{what}: not within {WITHIN_S:g} s"
        await asyncio.sleep(LOOK_EVERY_S)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    try:
        yield servers
    finally:
        servers.end()


@pytest.mark.timeout(SERVERS * START_WITHIN_S + 4 * WITHIN_S)
def test_a_server_that_is_killed_gets_probes_alone_and_its_share_once_it_is_back(servers: Servers) -> None:
    clients = [CountedUpstream(url) for url in servers.urls]
    upstream = BalancedUpstream(dict(zip(servers.urls, clients, strict=True)))
    dead, *others = clients
    calls = Calls(upstream)

    async def run() -> None:
        async with calls.going_on():
            await until(lambda: all(client.count > 100 for client in clients), "each server gets calls")
            servers.kill(0)
            await until(lambda: upstream.status()[0].is_left_alone, "it is left alone")
            left_at, answered_then = dead.count, calls.answered
            counted_then = [client.count for client in others]
            await until(lambda: dead.count >= left_at + 3, "it gets probes")
            await until(lambda: (upstream.status()[0].probe_in_s or 0) > 1, "the third has failed")
            probes = dead.count - left_at
            answered_meanwhile = calls.answered - answered_then
            others_meanwhile = [client.count - count for client, count in zip(others, counted_then, strict=True)]
            await asyncio.to_thread(servers.restart, 0)
            await until(lambda: not upstream.status()[0].is_left_alone, "it is back")
            back_at = dead.count
            await until(lambda: dead.count > back_at + 100, "it gets calls again")
        await upstream.close()

        assert probes == 3
        assert answered_meanwhile > 100
        assert min(others_meanwhile) > 0.8 * max(others_meanwhile)

    on_uvloop(run())

    # In trouble are those that were in flight when it was killed, and its probes.
    assert calls.troubles[Trouble.FLAKY] <= CALLERS
    assert calls.troubles[Trouble.AWAY] <= CALLERS + 5
    assert sum(client.count for client in clients) == calls.answered + calls.troubles.total()
    # The probe that found it, and all that came after.
    assert servers.stats(0)["answered"] > 100


@pytest.mark.timeout(SERVERS * START_WITHIN_S + 2 * WITHIN_S)
def test_a_model_that_no_server_has_leaves_the_others_served(servers: Servers) -> None:
    clients = [CountedUpstream(url) for url in servers.urls]
    upstream = BalancedUpstream(dict(zip(servers.urls, clients, strict=True)))
    # Each a tenth of a second, so that between two answers of a server it refuses many times in a row.
    served, away = Calls(upstream, "[[sleep:100]]"), Calls(upstream, "[[fail:503]]", 0.05, "away")

    async def run() -> None:
        async with away.going_on():
            await until(lambda: all(status.is_left_alone for status in upstream.status()), "all are left alone")
            async with served.going_on():
                await until(lambda: served.answered >= 20 * CALLERS, "the model that is there answers")
        await upstream.close()

    on_uvloop(run())

    assert not served.troubles
    assert not away.answered
