"""Uploads as they come over the wire: in any order, in pieces, broken, cut."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.domain.limits import MIB
from tests.unit.api.conftest import World
from tests.unit.api.wire import error_of

PURPOSE = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="upload"\r\n\r\n{}\r\n'
END = b"--b--\r\n"


def send(client: FlaskClient, body: bytes, length: int | None = None) -> Any:
    return client.post(
        "/v1/files",
        environ_overrides=body_of(io.BytesIO(body), len(body) if length is None else length),
    )


def body_of(stream: Any, length: int) -> dict[str, Any]:
    return {
        "wsgi.input": stream,
        "CONTENT_LENGTH": str(length),
        "CONTENT_TYPE": "multipart/form-data; boundary=b",
    }


class Endless:
    """A body that is never held whole: a start, then so many zeros, then an end."""

    def __init__(self, start: bytes, zeros: int, end: bytes) -> None:
        self.length = len(start) + zeros + len(end)
        self.taken = 0
        self._start = io.BytesIO(start)
        self._zeros = zeros
        self._end = io.BytesIO(end)

    def read(self, size: int) -> bytes:
        data = self._start.read(size) or bytes(min(size, self._zeros))
        if not data:
            data = self._end.read(size)
        elif not any(data[:1]):
            self._zeros -= len(data)
        self.taken += len(data)
        return data


def send_endless(client: FlaskClient, body: Endless) -> Any:
    return client.post(
        "/v1/files",
        environ_overrides=body_of(body, body.length),
    )


@pytest.mark.parametrize("body", [PURPOSE + FILE + END, FILE + PURPOSE + END])
def test_fields_come_in_any_order(client: FlaskClient, world: World, body: bytes) -> None:
    response = send(client, body)

    assert response.status_code == 200
    assert (response.json["filename"], response.json["bytes"]) == ("upload", 2)
    assert list(world.blobs.stored.values()) == [b"{}"]


def test_an_empty_file_is_taken_since_validation_reports_it(client: FlaskClient) -> None:
    response = send(client, PURPOSE + FILE.replace(b"{}", b"") + END)

    assert (response.status_code, response.json["bytes"]) == (200, 0)


def test_a_file_part_without_a_name_is_a_file_all_the_same(client: FlaskClient) -> None:
    response = send(client, PURPOSE + FILE.replace(b'; filename="upload"', b"") + END)

    assert (response.status_code, response.json["filename"]) == (200, "upload")


def field(name: str, text: str) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()


@pytest.mark.parametrize("name", ["colour", "expires_after[days]", "expires_after.days", "expires_after[]", "Purpose"])
@pytest.mark.parametrize("comes_first", [True, False])
def test_a_field_that_is_not_known_is_refused_by_name(
    client: FlaskClient, world: World, name: str, comes_first: bool
) -> None:
    parts = [field(name, "1"), PURPOSE + FILE]

    error = error_of(send(client, b"".join(parts if comes_first else reversed(parts)) + END), 400)

    assert (error["param"], error["code"]) == (name, "unknown_parameter")
    assert world.is_empty


def test_a_part_without_a_name_is_refused(client: FlaskClient, world: World) -> None:
    nameless = b"--b\r\nContent-Disposition: form-data\r\n\r\na\r\n"

    assert error_of(send(client, nameless + PURPOSE + FILE + END), 400)["code"] == "invalid_form"
    assert world.is_empty


def test_a_second_file_under_another_name_is_refused_by_that_name(client: FlaskClient, world: World) -> None:
    thumbnail = FILE.replace(b'name="file"', b'name="thumbnail"')

    error = error_of(send(client, PURPOSE + FILE + thumbnail + END), 400)

    assert error["param"] == "thumbnail"
    assert world.is_empty


@pytest.mark.parametrize(
    "fields",
    [
        field("expires_after[anchor]", "created_at") + field("expires_after[seconds]", "3600"),
        field("expires_after.anchor", "created_at") + field("expires_after.seconds", "3600"),
        field("expires_after.seconds", "3600") + field("expires_after[anchor]", "created_at"),
        field("expires_after", '{"anchor": "created_at", "seconds": 3600}'),
    ],
    ids=["brackets", "dots", "one of each", "JSON"],
)
def test_a_retention_is_read_in_each_of_its_spellings(client: FlaskClient, fields: bytes) -> None:
    file = send(client, PURPOSE + FILE + fields + END).json

    assert file["expires_at"] - file["created_at"] == 3_600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (field("expires_after", "3600"), "expires_after"),
        (field("expires_after", "[" * 5_000), "expires_after"),
        (field("expires_after", '{"anchor": "created_at", "days": 1}'), "expires_after.days"),
        (field("expires_after", '{"anchor": "created_at"}'), "expires_after.seconds"),
        (field("expires_after[seconds]", "3600"), "expires_after.anchor"),
        (field("expires_after[seconds]", "3600") + field("expires_after.seconds", "7200"), "expires_after.seconds"),
        (field("purpose", "batch") + field("purpose", "vision"), "purpose"),
    ],
)
def test_a_retention_that_is_not_whole_or_says_two_things_is_refused(
    client: FlaskClient, world: World, fields: bytes, param: str
) -> None:
    assert error_of(send(client, PURPOSE + FILE + fields + END), 400)["param"] == param
    assert world.is_empty


def test_content_that_looks_like_a_boundary_is_content(client: FlaskClient, world: World) -> None:
    content = b"\r\n--bx\r\n--\r\n--b-\r\n" * 50_000

    response = send(client, PURPOSE + FILE.replace(b"{}", content) + END)

    assert response.status_code == 200
    assert list(world.blobs.stored.values()) == [content]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (PURPOSE + END, "file"),
        (FILE + END, "purpose"),
        (FILE + PURPOSE.replace(b"batch", b"fun") + END, "purpose"),
        (PURPOSE.replace(b"batch", b"fun") + FILE + END, "purpose"),
        (PURPOSE.replace(b"batch", b"\x00") + FILE + END, "purpose"),
        (PURPOSE + FILE + FILE + END, "file"),
        (FILE + PURPOSE.replace(b"batch", b"x" * 20_000) + END, "purpose"),
        (PURPOSE + FILE.replace(b'"file"', b'"fiel"') + END, "fiel"),
    ],
)
def test_a_form_that_does_not_do_is_refused_by_name_and_leaves_nothing(
    client: FlaskClient, world: World, body: bytes, param: str
) -> None:
    assert error_of(send(client, body), 400)["param"] == param
    assert world.is_empty


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        FILE + PURPOSE,
        FILE[:-4],
        b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END,
        FILE + b"--b\r\nX: " + b"x" * 2_000_000 + b"\r\n\r\n" + END,
        FILE + PURPOSE.replace(b"batch", b"\xff") + END,
        FILE + PURPOSE * 40 + END,
    ],
)
def test_a_broken_form_is_refused_and_leaves_nothing(client: FlaskClient, world: World, body: bytes) -> None:
    error_of(send(client, body), 400)

    assert world.is_empty


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "multipart/form-data", "multipart/mixed; boundary=b"]
)
def test_what_is_no_form_is_refused(client: FlaskClient, content_type: str | None) -> None:
    response = client.post("/v1/files", data=FILE, content_type=content_type)

    assert error_of(response, 400)["code"] == "unsupported_content_type"


def test_an_upload_cut_midway_leaves_no_file(client: FlaskClient, world: World) -> None:
    cut = PURPOSE + FILE[:-4] + b"x" * 500_000

    response = send(client, cut, length=5 * MIB)

    assert response.status_code == 400
    assert world.is_empty


def test_a_connection_that_breaks_midway_leaves_no_file(client: FlaskClient, world: World) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise ConnectionResetError
            return data

    response = client.post(
        "/v1/files",
        environ_overrides=body_of(Broken(PURPOSE + FILE[:-4]), 5 * MIB),
    )

    assert response.status_code == 400
    assert world.is_empty


def test_a_full_disk_is_said_and_leaves_no_file(client: FlaskClient, world: World) -> None:
    world.blobs.capacity = 1

    error = error_of(send(client, PURPOSE + FILE + END), 507)

    assert error["code"] == "storage_full"
    assert world.is_empty


def test_a_batch_file_over_its_limit_is_refused_before_all_of_it_came(client: FlaskClient, world: World) -> None:
    body = Endless(PURPOSE + FILE[:-4], 300 * MIB, b"\r\n" + END)

    error = error_of(send_endless(client, body), 413)

    assert (error["param"], "200 MiB" in error["message"]) == ("file", True)
    assert body.taken < 203 * MIB
    assert world.is_empty


def test_a_batch_file_over_its_limit_is_refused_when_its_purpose_comes_last(client: FlaskClient, world: World) -> None:
    body = Endless(FILE[:-4], 201 * MIB, b"\r\n" + PURPOSE + END)

    assert error_of(send_endless(client, body), 413)["param"] == "file"
    assert world.is_empty


def test_an_upload_over_every_limit_is_refused_by_its_length(client: FlaskClient, world: World) -> None:
    response = send(client, FILE, length=600 * MIB)

    assert "512 MiB" in error_of(response, 413)["message"]
    assert world.is_empty


@pytest.mark.parametrize("line_break", [b"\r\n", b"\n"])
@pytest.mark.parametrize("padding", [b"", b" \t"])
@pytest.mark.parametrize("form", [FILE + PURPOSE + END, PURPOSE + FILE + END])
def test_where_a_piece_ends_changes_nothing(
    client: FlaskClient, world: World, form: bytes, line_break: bytes, padding: bytes
) -> None:
    # One piece of a body ends at 256 KiB: the boundary behind the file is moved over that place.
    piece_bytes = MIB // 4
    body = form.replace(b"--b\r\n", b"--b" + padding + b"\r\n").replace(b"\r\n", line_break)
    start, end = body.split(b"{}")

    for behind in range(-1, 12):
        content = b"x" * (piece_bytes - len(start) - behind)
        response = send(client, start + content + end)

        assert response.status_code == 200, behind
        assert list(world.blobs.stored.values())[-1] == content, behind
