"""The processor's time for a byte, compared within one run: a machine that is slow or busy is so for both sides."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from app.domain.errors import LineInvalid
from app.domain.limits import MIB
from app.domain.line import check_line
from app.domain.source_lines import read_lines

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
SIZE = MIB // 2
# What the dearest shape costs is about as much for a byte as a file of short lines; walking over brackets in Python
# was thirty times as much.
MOST_TIMES = 8
HEAD = b'{"custom_id":"a","method":"POST","url":"%b","body":{"model":"m","%b":'
CHAT_HEAD = HEAD % (CHAT.encode(), b"messages")
INPUT_HEAD = HEAD % (EMBEDDINGS.encode(), b"input")
SHORT_LINE = CHAT_HEAD + b'[{"role":"user","content":"%b"}]}}' % (b"word " * 20)


def fill(unit: bytes) -> bytes:
    return unit * (SIZE // len(unit))


def nest(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


IN_CHAT = {
    "empty arrays": b"[" + fill(b"[],") + b"1]}}",
    "arrays nested deeply": b"[" + fill(nest(90) + b",") + b"1]}}",
    "empty objects": b"[" + fill(b"{},") + b"1]}}",
    "millions of keys": b"[]," + fill(b'"":0,') + b'"":0}}',
    "millions of keys within": b"{" + fill(b'"":0,') + b'"":0}}}',
    "millions of keys beside the body": b"[]}," + fill(b'"":0,') + b'"":0}',
    "millions of empty strings": b"[" + fill(b'"",') + b"1]}}",
    "brackets in strings": b"[" + fill(b'"[",') + b"1]}}",
    "brackets in and out of strings": b"[" + fill(b'["["],') + b"1]}}",
    "a string of brackets": b'"' + fill(b"[") + b'"}}',
    "a string of brackets and escaped quotes": b'"' + fill(b'\\"[') + b'"}}',
    "escaped quotes": b'"' + fill(b'\\"') + b'"}}',
    "backslashes": b'"' + fill(b"\\\\") + b'"}}',
    "escaped characters": b'"' + fill(b"\\u0041") + b'"}}',
    "halves of characters": b'"' + fill(b"\\ud800") + b'"}}',
    "halves of characters in keys": b"{" + fill(b'"\\ud800":0,') + b'"":0}}}',
    "characters of four bytes": b'"' + fill("🎈".encode()) + b'"}}',
    "a huge number": fill(b"9") + b"}}",
    "a huge fraction": b"0." + fill(b"9") + b"}}",
    "a number with a huge exponent": b"1e" + fill(b"9") + b"}}",
    "millions of numbers": b"[" + fill(b"1,") + b"1]}}",
    "spaces": b"[" + fill(b" ") + b"]}}",
    "a string without an end": b'"' + fill(b"a"),
    "quotes without an end": b'["[' + fill(b'"'),
    "arrays without an end": fill(b"["),
    "arrays side by side without an end": nest(60) + fill(b"[]"),
    "an end too early": b"[]}}" + fill(b"[],"),
}
LINES = {name: (CHAT, CHAT_HEAD + rest) for name, rest in IN_CHAT.items()} | {
    "brackets alone": (CHAT, fill(b"[")),
    "an array of arrays": (CHAT, b"[" + fill(b"[],") + b"1]"),
    "an array as custom_id": (CHAT, b'{"custom_id":[' + fill(b"{},") + b'1],"method":"","url":"","body":{}}'),
    "a number as model": (CHAT, CHAT_HEAD.replace(b'"m"', fill(b"9")) + b"1}}"),
    "a long custom_id": (CHAT, CHAT_HEAD.replace(b'"a"', b'"' + fill(b"a") + b'"') + b"1}}"),
    "a long model": (CHAT, CHAT_HEAD.replace(b'"m"', b'"' + fill(b"a") + b'"') + b"1}}"),
    "millions of texts": (EMBEDDINGS, INPUT_HEAD + b"[" + fill(b'"",') + b'""]}}'),
    "millions of texts of tokens": (EMBEDDINGS, INPUT_HEAD + b"[" + fill(b"[1],") + b"[1]]}}"),
    "a text of escapes": (EMBEDDINGS, INPUT_HEAD + b'["' + fill(b'\\"') + b'"]}}'),
}
BLANKS = {
    "line breaks": fill(b"\n"),
    "spaces and line breaks": fill(b" \n"),
    "line breaks of Windows": fill(b"\r\n"),
    "spaces": fill(b" "),
    "carriage returns": fill(b"\r"),
    "line breaks before each line of text": fill(b"\n" * 150 + b"x\n"),
    "lines of white space before each line of text": fill(b" \t\n" * 50 + b"x\n"),
}


def seconds_for_a_byte(work: Callable[[], object], size: int) -> float:
    taken = []
    for _ in range(3):
        begun = time.thread_time()
        with suppress(LineInvalid):
            work()
        taken.append(time.thread_time() - begun)
    return min(taken) / size


def short_lines() -> None:
    for _ in range(SIZE // len(SHORT_LINE)):
        check_line(SHORT_LINE, CHAT)


@pytest.mark.parametrize("case", LINES)
def test_no_shape_of_a_line_costs_many_times_as_much_as_short_lines(case: str) -> None:
    endpoint, line = LINES[case]

    cost = seconds_for_a_byte(lambda: check_line(line, endpoint), len(line))

    assert cost < MOST_TIMES * seconds_for_a_byte(short_lines, SIZE)


@pytest.mark.parametrize("case", BLANKS)
def test_no_white_space_costs_many_times_as_much_as_short_lines(case: str) -> None:
    data = BLANKS[case]

    cost = seconds_for_a_byte(lambda: list(read_lines([data])), len(data))

    assert cost < MOST_TIMES * seconds_for_a_byte(short_lines, SIZE)
