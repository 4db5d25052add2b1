"""A request that is not sent, as its line became another worker's while a connection was opened."""

from app.adapters.upstream.client import HttpUpstream
from app.domain.retry import Trouble
from app.services.ports import Answer, Caller
from tests.unit.adapters.upstream_server import CHAT, Conversation, answer, on_uvloop, serving


def test_nothing_is_sent_where_the_line_has_become_anothers_while_it_was_connected():
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_request())
        await conversation.say(answer(b"{}"))

    async def run() -> Answer:
        async with serving(handle) as url:
            upstream = HttpUpstream(url, api_key=None, connect_timeout_s=5, first_byte_timeout_s=5)
            try:
                return await upstream.call(CHAT, b"{}", 5.0, Caller(may_send=lambda: False))
            finally:
                await upstream.close()

    said = on_uvloop(run())

    assert said.trouble is Trouble.WITHHELD
    assert seen == []
