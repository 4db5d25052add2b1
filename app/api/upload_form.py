"""Read a multipart upload piece by piece: the file's bytes go to storage at once, never whole to memory."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

import msgspec
from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, State

from app.domain.errors import InvalidRequest, TooLarge
from app.domain.limits import MAX_FILE_BYTES, MIB
from app.services.files import UNNAMED, Upload

# The largest file, and room for the form around the file.
MAX_UPLOAD_BYTES = MAX_FILE_BYTES + MIB
# Large enough to parse 200 MB in less than a second, small enough to hold many pieces at once.
_PIECE_BYTES = MIB // 4
# The decoder's buffer beyond a piece: only the headers of a part pile up in the buffer.
_MAX_PENDING_BYTES = 2 * _PIECE_BYTES
_MAX_FIELD_BYTES = 16 * 1024
_MAX_PARTS = 32
_FILE = "file"
# The start of a boundary's end, while the rest is still to come.
_BOUNDARY_END = re.compile(rb"-|[^\S\n\r]*\r?")
_PURPOSE = "purpose"
_EXPIRES_AFTER = "expires_after"
# The spellings of today's clients and of earlier clients.
_EXPIRES_AFTER_KEYS = {
    spelt.format(key): key
    for key in ("anchor", "seconds")
    for spelt in (f"{_EXPIRES_AFTER}[{{}}]", f"{_EXPIRES_AFTER}.{{}}")
}
_KNOWN_FIELDS = frozenset({_FILE, _PURPOSE, _EXPIRES_AFTER, *_EXPIRES_AFTER_KEYS})


@dataclass
class UploadForm:
    """The content of a form: the file, and the text fields by name."""

    upload: Upload | None = None
    filename: str = UNNAMED
    fields: dict[str, str] = field(default_factory=dict)

    def nested(self) -> dict[str, object]:
        """Return the fields in the shape of a JSON body: `expires_after` is an object, whatever its spelling.

        Raises:
            InvalidRequest: `expires_after` is not an object, or has an unknown field.
        """
        values: dict[str, object] = {name: text for name, text in self.fields.items() if name == _PURPOSE}
        expires_after = _json_object(self.fields[_EXPIRES_AFTER]) if _EXPIRES_AFTER in self.fields else {}
        for name, text in self.fields.items():
            if key := _EXPIRES_AFTER_KEYS.get(name):
                value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text
                if expires_after.setdefault(key, value) != value:
                    raise _given_twice(name)
        if expires_after:
            values[_EXPIRES_AFTER] = expires_after
        return values


def read_upload(request: Request, begin: Callable[[], Upload]) -> UploadForm:
    """Read the form; the caller finishes the returned upload.

    After an error, a disconnected client included, the upload is discarded.

    Args:
        request: the form is the request's body.
        begin: opens the upload when the file's part begins.

    Raises:
        InvalidRequest: no form, a broken form, or a form with two files.
        TooLarge: over the limit of the purpose, or of all purposes while the purpose is unknown.
        StorageFull: no room for the bytes.
        ClientDisconnected: the body ended before the form did.
    """
    request.max_content_length = MAX_UPLOAD_BYTES
    reader = _FormReader(begin)
    try:
        decoder = _Decoder(_boundary(request), _MAX_PENDING_BYTES, max_parts=_MAX_PARTS)
        _feed(_body(request), decoder, reader)
        return reader.form
    except BaseException as fault:
        if reader.form.upload is not None:
            reader.form.upload.discard()
        if isinstance(fault, ValueError):
            raise InvalidRequest(f"The multipart form is broken: {fault}.", code="invalid_form") from None
        if isinstance(fault, RequestEntityTooLarge):
            raise InvalidRequest(
                f"The form has more than {_MAX_PARTS} parts, or one with headers too long.", code="invalid_form"
            ) from None
        raise


def _body(request: Request) -> IO[bytes]:
    try:
        return request.stream
    except RequestEntityTooLarge:
        raise _too_large() from None


def _boundary(request: Request) -> bytes:
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary or not boundary.isascii():
        raise InvalidRequest(
            "Send the file as multipart/form-data with a boundary, with the parts 'file' and 'purpose'.",
            code="unsupported_content_type",
        )
    return boundary.encode()


def _feed(stream: IO[bytes], decoder: MultipartDecoder, reader: "_FormReader") -> None:
    piece: bytes | None = b""
    while piece is not None:
        piece = _read(stream)
        decoder.receive_data(piece)
        event = decoder.next_event()
        while not isinstance(event, NeedData | Epilogue):
            if isinstance(event, Field | File):
                reader.begin_part(event)
            elif isinstance(event, Data):
                reader.take(event)
            event = decoder.next_event()


def _read(stream: IO[bytes]) -> bytes | None:
    """Return the next piece, None at the end."""
    try:
        return stream.read(_PIECE_BYTES) or None
    except RequestEntityTooLarge:
        raise _too_large() from None
    except OSError:
        # A body in chunks that ends early shows as an OSError.
        raise ClientDisconnected from None


def _too_large() -> TooLarge:
    message = f"The upload is larger than {MAX_FILE_BYTES // MIB} MiB, the most that a file may have: split it."
    return TooLarge(message, param=_FILE, code="file_too_large")


def _json_object(text: str) -> dict[str, object]:
    """Return `expires_after` from a field with a single JSON object."""
    try:
        value = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(
            f'Invalid value for \'{_EXPIRES_AFTER}\': send {{"anchor": "created_at", "seconds": …}}, or the fields'
            f" '{_EXPIRES_AFTER}[anchor]' and '{_EXPIRES_AFTER}[seconds]'.",
            param=_EXPIRES_AFTER,
            code="invalid_type",
        ) from None
    for key in value:
        if key not in _EXPIRES_AFTER_KEYS.values():
            param = f"{_EXPIRES_AFTER}.{key[:100]}"
            raise InvalidRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    return value


def _given_twice(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"The form has the field '{name}' twice, with different values.", param=name, code="invalid_value"
    )


class _Decoder(MultipartDecoder):
    r"""Mends Werkzeug's decoder: if a piece ends just behind a boundary, the line break before is taken for content.

    After a piece ending in `\r\n--boundary` Werkzeug waits for more; after `\r\n--boundary-` it gives out the `\r`.
    """

    def next_event(self) -> Event:
        # Wait for more bytes: the line break before the boundary may also end the headers.
        if self.state is State.DATA_START and not self.complete and len(self.buffer) < len(self.boundary) + 8:
            return NeedData()
        # Wait for more bytes: a `\r` behind the boundary may be half of a line break.
        if not self.complete and self.buffer.endswith(b"--%b\r" % self.boundary):
            return NeedData()
        return super().next_event()

    def _last_partial_boundary_index(self, data: bytes | bytearray) -> int:
        at = data.rfind(b"--" + self.boundary)
        if at > 0 and _BOUNDARY_END.fullmatch(data, at + 2 + len(self.boundary)):
            before = data[max(0, at - 2) : at]
            if before.endswith((b"\r", b"\n")):
                return at - (2 if before == b"\r\n" else 1)
        return super()._last_partial_boundary_index(data)


class _FormReader:
    """Passes the file's bytes to the upload, and keeps the text fields."""

    def __init__(self, begin: Callable[[], Upload]) -> None:
        self.form = UploadForm()
        self._begin = begin
        self._name: str | None = None
        self._text = bytearray()

    def begin_part(self, part: Field | File) -> None:
        # A part may lack a name, although Werkzeug's type says otherwise.
        if not part.name:
            raise InvalidRequest("A part of the form has no name.", code="invalid_form")
        if part.name not in _KNOWN_FIELDS:
            # If a misspelt field were dropped silently, the caller would believe in a retention or a limit.
            name = part.name[:100]
            raise InvalidRequest(
                f"Unknown parameter: '{name}'. A form has the fields 'file', 'purpose', 'expires_after[anchor]' and"
                " 'expires_after[seconds]'.",
                param=name,
                code="unknown_parameter",
            )
        self._name = part.name
        self._text.clear()
        if self._name != _FILE:
            return
        if self.form.upload is not None:
            raise InvalidRequest("Send one file: this form has two.", param=_FILE, code="invalid_value")
        self.form.filename = getattr(part, "filename", UNNAMED)
        self.form.upload = self._begin()
        self._bound_upload()

    def take(self, data: Data) -> None:
        if self._name == _FILE and self.form.upload is not None:
            self.form.upload.write(data.data)
        elif self._name is not None:
            self._take_text(self._name, data)

    def _take_text(self, name: str, data: Data) -> None:
        self._text += data.data
        if len(self._text) > _MAX_FIELD_BYTES:
            raise InvalidRequest(f"The field '{name[:100]}' is too long.", param=name[:100], code="invalid_value")
        if not data.more_data:
            text = self._text.decode()
            if self.form.fields.setdefault(name, text) != text:
                raise _given_twice(name)
            self._bound_upload()

    def _bound_upload(self) -> None:
        # Fields come in any order: the limit holds as soon as the purpose is known.
        purpose = self.form.fields.get("purpose")
        if purpose is not None and self.form.upload is not None:
            self.form.upload.bound_by(purpose)
