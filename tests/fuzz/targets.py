"""What is fuzzed: functions that take any bytes, and raise only where the product has a defect."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import msgspec
from flask import Request
from structlog.testing import capture_logs
from werkzeug.exceptions import ClientDisconnected

from app.adapters.upstream.answer_reader import Reply
from app.adapters.upstream.faults import AnswerGarbled
from app.adapters.upstream.json_text import without_surrogates
from app.adapters.upstream.reading import read_answer
from app.api.upload_form import UploadForm, read_upload
from app.domain.errors import LineInvalid, Refused
from app.domain.lifecycle import Status
from app.domain.limits import MAX_LINE_ERRORS, MAX_TOKENS_PER_CALL
from app.domain.line import check_line, read_request
from app.domain.result import answered, unanswered
from app.domain.retry import Trouble
from app.domain.source_lines import SourceLine, read_lines
from app.services.files import Upload, label
from tests.fakes.outside import MemoryBlobs
from tests.unit.services.validation_house import House

Target = Callable[[bytes], None]

ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/moderations",
    "/v1/other",
)
BOUNDARY = b"b"
# Room for an answer, small so that bombs are short.
MAX_ANSWER_BYTES = 64 * 1024
# Of what is told to a caller: a name that is repeated is cut.
_MAX_SAID_CHARS = 1_000
_STATUSES = (200, 201, 299, 400, 404, 408, 413, 429, 500, 503, 529, 302)
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate", "br", "GZIP ")
_NOT_JSON = "This line is not parseable as valid JSON."


def fuzz_line(data: bytes) -> None:
    """One line: the first byte chooses the endpoint, the rest is the line."""
    endpoint, line = ENDPOINTS[_first(data) % len(ENDPOINTS)], data[1:]
    try:
        checked = check_line(line, endpoint)
    except LineInvalid as fault:
        _check_said(fault.code, fault.message, fault.param)
        if fault.message == _NOT_JSON:
            assert not _is_plain_json(line), "JSON is refused as none"
        return
    value = _loads(line)
    request = read_request(line)
    assert request.custom_id == checked.custom_id == value["custom_id"]
    assert value["method"] == "POST"
    assert value["url"] == endpoint
    assert _loads(bytes(request.body)) == value["body"]
    assert not value["body"].get("stream")
    assert (value["body"].get("model") or None) == checked.model
    assert checked.inputs >= 1
    _check_result(unanswered("batch_1", 0, checked.custom_id, "code", "message"), checked.custom_id)


def fuzz_file(data: bytes) -> None:
    """A whole input file: the first byte chooses the endpoint and where it is cut, the rest is the file."""
    first, content = _first(data), data[1:]
    endpoint = ENDPOINTS[first % len(ENDPOINTS)]
    whole = list(read_lines([content]))
    assert list(read_lines(pieces(content, first))) == whole, "the lines depend on where the file is cut"
    assert whole == list(_plain_lines(content)), "the lines are not those of the file"
    house = House()
    house.arrange(content, endpoint)
    with capture_logs():
        is_accepted = house.service.validate("batch_1")
    batch = house.batch
    if not is_accepted:
        assert batch.status is Status.FAILED
        assert 1 <= len(batch.errors) <= MAX_LINE_ERRORS + 1
        for error in batch.errors:
            _check_said(error.code, error.message, error.param)
        house.assert_nothing_left()
        return
    assert (batch.status, batch.total) == (Status.IN_PROGRESS, len(whole))
    assert batch.plan_blob is not None
    lines = [line.data for line in whole if line.data is not None]
    assert len({read_request(line).custom_id for line in lines}) == batch.total


def fuzz_form(data: bytes) -> None:
    """A multipart upload: the first byte says where it is cut, the rest is the body, with the boundary `b`."""
    first, body = _first(data), data[1:]
    whole = read_form([body])
    # Where the form is broken in two ways, which of them shows first may depend on the pieces.
    assert read_form(pieces(body, first))[0] == whole[0], "the form depends on where it is cut"


def fuzz_answer(data: bytes) -> None:
    """An answer of the model server: two bytes choose status and encoding; a header's line; the rest is the body."""
    status = _STATUSES[_first(data) % len(_STATUSES)]
    encoding = _ENCODINGS[_first(data[1:]) % len(_ENCODINGS)]
    head, _, body = data[2:].partition(b"\n")
    text = head.decode("latin-1")
    headers = {"retry-after": text, "x-request-id": text, "content-type": text}
    if encoding:
        headers["content-encoding"] = encoding
    try:
        answer = read_answer(Reply(status, headers, body, is_whole=not text.endswith("…")), MAX_ANSWER_BYTES)
    except AnswerGarbled:
        return
    assert answer.retry_after_s is None or answer.retry_after_s > 0
    if answer.error is not None:
        code, message = answer.error
        _check_said(code, message, None)
        _check_result(unanswered("batch_1", 0, "a", code, message), "a")
        return
    for name in type(answer.usage).__slots__:
        assert 0 <= getattr(answer.usage, name) <= MAX_TOKENS_PER_CALL
    if answer.trouble is Trouble.NONE or answer.body:
        assert answer.body is not None
        assert len(answer.body) <= 2 * MAX_ANSWER_BYTES
        line = answered("batch_1", 0, "a", answer.status or 0, answer.request_id or "", answer.body)
        _check_result(line, "a")


TARGETS: Mapping[str, Target] = {
    "line": fuzz_line,
    "file": fuzz_file,
    "form": fuzz_form,
    "answer": fuzz_answer,
}


def check_one_line(data: bytes) -> None:
    with suppress(LineInvalid):
        check_line(data[1:], ENDPOINTS[_first(data) % len(ENDPOINTS)])


def validate_file(data: bytes) -> None:
    house = House()
    house.arrange(data[1:], ENDPOINTS[_first(data) % len(ENDPOINTS)])
    with capture_logs():
        house.service.validate("batch_1")


def read_whole_form(data: bytes) -> None:
    read_form([data[1:]])


# What the memory of is measured: the product without the oracles, which hold all of an input several times.
BARE: Mapping[str, Target] = {
    "line": check_one_line,
    "file": validate_file,
    "form": read_whole_form,
    "answer": fuzz_answer,
}


class _Pieces:
    """A body as it comes from the network."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = [part for part in parts if part]

    def read(self, size: int = -1) -> bytes:
        if not self._parts:
            return b""
        part = self._parts.pop(0)
        if 0 <= size < len(part):
            self._parts.insert(0, part[size:])
            part = part[:size]
        return part


def read_form(parts: list[bytes]) -> tuple[tuple[bytes, str, dict[str, str]] | None, str]:
    """Return the file, its name and the fields of a form; None and the reason where it is refused."""
    blobs = MemoryBlobs()
    form: UploadForm | None = None
    try:
        form = read_upload(request_of(parts), lambda: _upload(blobs))
        form.nested()
    except Refused as fault:
        _check_said(fault.code, fault.message, fault.param)
        assert not blobs.unfinished, "a refused form leaves bytes behind"
        return None, fault.code or ""
    except ClientDisconnected:
        assert not blobs.unfinished, "a form that was cut off leaves bytes behind"
        return None, "disconnected"
    name = label(form.filename)
    assert name
    assert "/" not in name
    assert name.isprintable() or not name.isascii()
    if form.upload is None:
        assert not blobs.unfinished
        return (b"", name, form.fields), ""
    form.upload.commit()
    return (blobs.stored["files/1"], name, form.fields), ""


def _upload(blobs: MemoryBlobs) -> Upload:
    return Upload("file-1", "files/1", blobs.create("files/1"), is_hashed=False)


def request_of(parts: list[bytes], content_type: str = "multipart/form-data; boundary=b") -> Request:
    return Request(
        {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": str(sum(map(len, parts))),
            "wsgi.input": _Pieces(parts),
            "wsgi.url_scheme": "http",
            "SERVER_NAME": "test",
            "SERVER_PORT": "80",
        }
    )


def pieces(data: bytes, choice: int) -> list[bytes]:
    """Cut data: in single bytes, in pieces of some length, or in two."""
    if choice % 4 == 3:
        at = choice * len(data) // 256
        return [data[:at], data[at:]]
    size = max(1, choice // 4)
    # Long ones are not cut to crumbs: what matters at a border is near it.
    size = max(size, len(data) // 60)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _plain_lines(data: bytes) -> Iterator[SourceLine]:
    offset = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        start = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
        text = line[start:].removesuffix(b"\r")
        if text.strip(b" \t\n\r\x0b\x0c"):
            yield SourceLine(number, offset + start, text)
        offset += len(line) + 1


def _first(data: bytes) -> int:
    return data[0] if data else 0


def _loads(text: bytes, read_float: Callable[[str], str] = str) -> Any:
    # Long numbers take quadratic time, and their value matters to nobody here.
    return json.loads(text.decode(), parse_int=str, parse_float=read_float, parse_constant=_no_constant)


def _finite(text: str) -> str:
    # What no double holds is past what readers agree on.
    if math.isinf(float(text)):
        raise ValueError(text)
    return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _is_plain_json(line: bytes) -> bool:
    """Return whether any reader takes this for JSON: no NaN."""
    try:
        _loads(line, _finite)
    except (ValueError, RecursionError):
        return False
    return True


def _check_said(code: object, message: str, param: str | None) -> None:
    """Check that an error can be stored and shown: bounded, and UTF-8."""
    assert code is None or isinstance(code, str)
    assert 0 < len(message) <= _MAX_SAID_CHARS
    for text in (message, param or ""):
        text.encode()
    assert len(param or "") <= _MAX_SAID_CHARS


def _check_result(line: bytes, custom_id: str) -> None:
    """Check that a line of an output file is one line of JSON that says whose it is."""
    text = line.decode()
    assert len(text.splitlines()) == 1
    assert _loads(line)["custom_id"] == custom_id
    # An escaped surrogate without its pair is JSON, which msgspec alone does not take.
    msgspec.json.decode(without_surrogates(line), type=dict[str, msgspec.Raw])
