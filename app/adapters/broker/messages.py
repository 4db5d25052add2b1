"""Checks that a message has this program's form; otherwise the message is garbage."""

import base64
import binascii
from typing import Annotated, Any

import msgspec

from app.adapters.queue import LINES_QUEUE, RUN_LINES
from app.domain.limits import MAX_LINES
from app.services.ports import Delivery

# A message of this program carries ids only, and has 1.3 kB.
MAX_BYTES = 16_384
_PREFIXES = ("beat.", "control.", "lines.")
_SHOWN_CHARS = 200


class Garbage(Exception):
    """A message from elsewhere; the text tells the fault of the message."""


class _DeliveryInfo(msgspec.Struct):
    exchange: str
    routing_key: str


class _Properties(msgspec.Struct):
    delivery_tag: str
    delivery_info: _DeliveryInfo
    body_encoding: str
    correlation_id: str = ""
    reply_to: str = ""
    priority: int = 0


class _Headers(msgspec.Struct):
    id: str
    task: str
    lang: str = "py"
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    # Tasks of this program have neither `eta` nor `expires`: by a wrong clock a task could be dropped, or kept, for
    # ever.
    eta: None = None
    expires: None = None
    timelimit: tuple[None, None] = (None, None)
    argsrepr: str = ""
    kwargsrepr: str = ""
    origin: str = ""
    shadow: None = None
    stamped_headers: None = None
    stamps: dict[str, Any] = {}
    ignore_result: bool = False
    redelivered: bool = False


class _Message(msgspec.Struct):
    body: str
    headers: _Headers
    properties: _Properties
    content_type: str = msgspec.field(name="content-type", default="")
    content_encoding: str = msgspec.field(name="content-encoding", default="")


class _Embed(msgspec.Struct):
    callbacks: None = None
    errbacks: None = None
    chain: None = None
    chord: dict[str, Any] | None = None


_BODY = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], _Embed])
_MESSAGE = msgspec.json.Decoder(_Message)
# Further arguments come from newer or older versions.
_LINE_ARGUMENTS = tuple[str, int, int, int, Delivery]
_LINE_ARGUMENTS_COUNT = 5


def read_message(raw: bytes, queue: str) -> dict[str, Any]:
    """Return a message of the queue in the form for kombu; raises Garbage."""
    if len(raw) > MAX_BYTES:
        raise Garbage(f"it has {len(raw):,} bytes")
    try:
        message = _MESSAGE.decode(raw)
        body = _BODY.decode(base64.b64decode(message.body, validate=True))
        _check(message, body[0], queue)
        decoded: dict[str, Any] = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, binascii.Error, UnicodeError, ValueError, RecursionError) as fault:
        raise Garbage(str(fault)[:_SHOWN_CHARS]) from None
    return decoded


def _check(message: _Message, arguments: list[Any], queue: str) -> None:
    task = message.headers.task
    if not task.startswith(_PREFIXES):
        raise Garbage(f"its task is {task[:_SHOWN_CHARS]!r}")
    # A process for lines lacks the means for other work, and vice versa.
    if task.startswith("lines.") != (queue.partition(".")[0] == LINES_QUEUE):
        raise Garbage(f"its task {task[:_SHOWN_CHARS]!r} does not belong in this queue")
    if message.properties.body_encoding != "base64":
        raise Garbage("its body is in another encoding")
    if (message.content_type, message.content_encoding) != ("application/json", "utf-8"):
        raise Garbage("its content is of another type")
    if task == RUN_LINES:
        _, number, first, end, _ = msgspec.convert(arguments[:_LINE_ARGUMENTS_COUNT], _LINE_ARGUMENTS)
        if not 0 <= first < end <= MAX_LINES or number < 0:
            raise Garbage("its lines are no range")
    elif len(arguments) > 1 or not all(isinstance(each, str) for each in arguments):
        raise Garbage("its arguments are no ids")


def shown(raw: bytes) -> str:
    """Return the start of a message, safe for a log."""
    return ascii(raw[:_SHOWN_CHARS])
