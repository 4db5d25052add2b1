"""How much memory answers take: of one call, and of all together."""

import asyncio
import threading
import tracemalloc
from collections.abc import Callable

import pytest

from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.client import HttpUpstream
from app.domain.limits import MIB
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.upstream_server import CHAT, Conversation, Handler, call, on_uvloop, serving

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LONG_S = 60.0


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_answer_in_tiny_chunks_takes_no_more_memory_than_in_one(size):
    body = b'["%b"]' % (b"xy" * 500_000)
    wire = in_chunks(body, size)

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        for at in range(0, len(wire), 65_536):
            await conversation.say(wire[at : at + 65_536])

    tracemalloc.start()
    try:
        said = call(handle, timeout_s=LONG_S, first_byte_timeout_s=LONG_S)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert said.body == body
    assert peak_bytes < 5 * len(body)


def test_more_bytes_around_the_pieces_of_a_body_than_any_server_sends_are_refused():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(CHUNKED)
        while True:
            await conversation.say(b"1;%b\r\nx\r\n" % (b"e" * 10_000))

    said = call(handle, max_answer_bytes=10_000)

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "invalid_response")
    assert "around the pieces" in said.error[1]


class Answers:
    """A server of large answers that all begin before any ends."""

    def __init__(self, size: int, count: int) -> None:
        self._body = b'["%b"]' % (b"x" * (size - 4))
        self._all_began = asyncio.Barrier(count)

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(CHUNKED)
        await self._all_began.wait()
        for at in range(0, len(self._body), 65_536):
            piece = self._body[at : at + 65_536]
            await conversation.say(b"%x\r\n%b\r\n" % (len(piece), piece))
        await conversation.say(b"0\r\n\r\n")


def call_at_once(handler: Handler, count: int, memory: AnswerMemory, size: int) -> list[Answer]:
    async def run() -> list[Answer]:
        async with serving(handler) as url:
            upstream = HttpUpstream(
                url,
                api_key=None,
                connect_timeout_s=LONG_S,
                first_byte_timeout_s=LONG_S,
                max_answer_bytes=size,
                memory=memory,
            )
            said = await asyncio.gather(*(upstream.call(CHAT, b"{}", LONG_S) for _ in range(count)))
            await upstream.close()
            return said

    return on_uvloop(run())


def test_many_large_answers_at_once_share_a_budget_and_are_all_read():
    size, count = 8 * MIB, 16

    async def handle(conversation: Conversation) -> None:
        await answers(conversation)

    answers = Answers(size, count)
    said = call_at_once(handle, count, Peak(4 * MIB), size)

    assert [(each.trouble, len(each.body)) for each in said] == [(Trouble.NONE, size)] * count


class Peak(AnswerMemory):
    """A budget that checks the most that all answers take together."""

    def __init__(self, budget_bytes: int) -> None:
        super().__init__(budget_bytes)
        self._sizes: dict[object, int] = {}
        self._most = budget_bytes + 8 * MIB + 16 * 512 * 1024

    def take(self, holder: object, size: int, go_on: Callable[[], None]) -> bool:
        self._sizes[holder] = size
        assert sum(self._sizes.values()) < self._most
        return super().take(holder, size, go_on)

    def release(self, holder: object) -> None:
        self._sizes.pop(holder, None)
        super().release(holder)


class Holder:
    """An answer that takes memory."""

    def __init__(self, memory: AnswerMemory) -> None:
        self._memory = memory
        self.went_on = 0

    def take(self, size: int) -> bool:
        return self._memory.take(self, size, self._go_on)

    def release(self) -> None:
        self._memory.release(self)

    def _go_on(self) -> None:
        self.went_on += 1


def on_loop(test: Callable[[], None]) -> None:
    async def run() -> None:
        test()

    asyncio.run(run())


def test_an_answer_within_the_budget_never_stops():
    def run() -> None:
        memory = AnswerMemory(100)
        first, second = Holder(memory), Holder(memory)
        assert [first.take(50), second.take(50), first.take(40)] == [True] * 3

    on_loop(run)


def test_one_answer_may_pass_the_budget_and_the_next_one_waits_for_its_end():
    def run() -> None:
        memory = AnswerMemory(100)
        first, second, third = Holder(memory), Holder(memory), Holder(memory)
        assert first.take(150)
        assert not second.take(10)
        assert not third.take(10)
        assert first.take(10_000)

        first.release()

        assert (second.went_on, third.went_on) == (1, 1)

    on_loop(run)


def test_answers_that_all_wait_for_each_other_are_let_go_one_by_one():
    def run() -> None:
        memory = AnswerMemory(100)
        first, second, third = (Holder(memory) for _ in range(3))
        assert first.take(60)
        assert second.take(60)
        assert not third.take(60)
        assert not first.take(70)

        second.release()

        assert (third.went_on, first.went_on) == (1, 0)
        third.release()
        assert first.went_on == 1

    on_loop(run)


def test_an_answer_that_is_given_up_while_it_waits_is_forgotten():
    def run() -> None:
        memory = AnswerMemory(100)
        first, second = Holder(memory), Holder(memory)
        assert first.take(150)
        assert not second.take(10)

        second.release()
        first.release()

        assert second.went_on == 0

    on_loop(run)


def test_what_is_not_recorded_yet_counts_and_lets_nobody_pass_the_budget():
    async def run() -> None:
        memory = AnswerMemory(100)
        went_on = asyncio.Event()
        memory.record_later(120)

        assert not memory.take("answer", 10, went_on.set)

        recording = threading.Thread(target=memory.recorded, args=(120,))
        recording.start()
        async with asyncio.timeout(LONG_S):
            await went_on.wait()
        recording.join()

    asyncio.run(run())
