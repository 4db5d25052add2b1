"""Lines of an input file, good but for the parts that a test changes."""

import json
from typing import Any

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": CHAT,
    "body": {"model": "small", "messages": [{"role": "user", "content": "hi"}]},
}


def line(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def body(**changes: object) -> bytes:
    return line(body={**GOOD["body"], **changes})


def body_without(name: str) -> bytes:
    return line(body={key: value for key, value in GOOD["body"].items() if key != name})
