import io
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types import FileDeleted, FileObject

from app.api.schemas import FileListSchema
from app.domain.file import File
from app.services.keys import DEFAULT_TENANT
from tests.unit.api.conftest import World
from tests.unit.api.wire import check_shape, error_of

LINE = b'{"custom_id": "1"}\n'


def upload(client: FlaskClient, data: bytes = LINE, filename: str = "in.jsonl", **fields: Any) -> Any:
    return client.post("/v1/files", data={"purpose": "batch", "file": (io.BytesIO(data), filename), **fields})


def put(world: World, data: bytes, filename: str = "in.jsonl", purpose: str = "batch") -> str:
    upload = world.files.begin()
    upload.write(data)
    return world.files.create("default", upload, purpose=purpose, filename=filename).id


def test_an_uploaded_file_is_a_file_object_of_the_official_client(client: FlaskClient, world: World) -> None:
    response = upload(client)

    assert response.status_code == 200
    check_shape(FileObject, response.json)
    assert response.json["bytes"] == len(LINE)
    assert response.json["status"] == "processed"
    assert response.json["expires_at"] == world.clock.now() + 2_592_000


def test_a_file_expires_when_its_form_says(client: FlaskClient, world: World) -> None:
    response = upload(client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})

    assert response.json["expires_at"] == world.clock.now() + 3_600


@pytest.mark.parametrize("seconds", ["3599", "2592001", "soon", "9" * 40])
def test_a_lifetime_out_of_bounds_is_refused_and_leaves_nothing(
    client: FlaskClient, world: World, seconds: str
) -> None:
    response = upload(client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": seconds})

    assert error_of(response, 400)["param"] == "expires_after.seconds"
    assert world.is_empty


def test_files_are_listed_in_pages(client: FlaskClient, world: World) -> None:
    ids = []
    for _ in range(3):
        ids.append(upload(client).json["id"])
        world.clock.advance(1)

    first = client.get("/v1/files?limit=2").json
    second = client.get(f"/v1/files?limit=2&after={first['last_id']}").json
    oldest = client.get("/v1/files?order=asc&limit=1").json

    assert [file["id"] for file in first["data"] + second["data"]] == ids[::-1]
    assert (first["object"], first["first_id"], first["has_more"]) == ("list", ids[2], True)
    assert (second["last_id"], second["has_more"]) == (ids[0], False)
    assert oldest["data"][0]["id"] == ids[0]


def test_an_empty_page_has_no_first_and_no_last(client: FlaskClient) -> None:
    page = client.get("/v1/files?purpose=vision").json

    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=-1", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=%201", "limit"),
        ("limit=٣", "limit"),
        ("order=up", "order"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_by_name(client: FlaskClient, query: str, param: str) -> None:
    assert error_of(client.get(f"/v1/files?{query}"), 400)["param"] == param


def test_a_purpose_that_no_database_could_look_for_is_refused(client: FlaskClient) -> None:
    assert error_of(client.get("/v1/files?purpose=a%00b"), 400)["param"] == "purpose"


@pytest.mark.parametrize("after", ["file-unknown", "%00", "batch_1", "' OR 1=1"])
def test_a_page_after_no_known_file_is_not_found(client: FlaskClient, after: str) -> None:
    assert error_of(client.get(f"/v1/files?after={after}"), 404)["param"] == "after"


def test_a_deleted_file_is_gone(client: FlaskClient) -> None:
    file_id = upload(client).json["id"]

    response = client.delete(f"/v1/files/{file_id}")

    check_shape(FileDeleted, response.json)
    assert response.json["deleted"] is True
    assert error_of(client.get(f"/v1/files/{file_id}"), 404)["message"] == f"No such File object: {file_id}"
    assert error_of(client.get(f"/v1/files/{file_id}/content"), 404)["param"] == "id"
    assert error_of(client.delete(f"/v1/files/{file_id}"), 404)


def test_another_tenants_file_is_not_found(client: FlaskClient, other_client: FlaskClient) -> None:
    file_id = upload(client).json["id"]

    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert error_of(other_client.open(f"/v1/files/{file_id}{path}", method=method), 404)
    assert other_client.get("/v1/files").json["data"] == []


@pytest.mark.parametrize("file_id", ["nope", "file-a%00b", "file-%F0%9F%98%80", "file-" + "a" * 5_000, "..", "file-'"])
def test_an_odd_id_is_not_found(client: FlaskClient, file_id: str) -> None:
    assert error_of(client.get(f"/v1/files/{file_id}"), 404)


def test_content_comes_back_as_it_went_in(client: FlaskClient, world: World) -> None:
    data = bytes(range(256)) * 9_000
    file_id = put(world, data, "result's ü.jsonl")

    response = client.get(f"/v1/files/{file_id}/content", headers={"Accept": "application/binary"})

    assert response.status_code == 200
    assert response.data == data
    assert response.mimetype == "application/octet-stream"
    assert response.content_length == len(data)
    assert response.headers["Content-Disposition"].startswith("attachment; filename")


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-3", 0, 4), ("bytes=1500000-", 1_500_000, 2_000_000), ("bytes=-7", 1_999_993, 2_000_000)],
)
def test_a_range_of_the_content_is_sent_alone(
    client: FlaskClient, world: World, asked: str, first: int, end: int
) -> None:
    data = b"0123456789" * 200_000
    file_id = put(world, data)

    response = client.get(f"/v1/files/{file_id}/content", headers={"Range": asked})

    assert response.status_code == 206
    assert response.data == data[first:end]
    assert response.headers["Content-Range"] == f"bytes {first}-{end - 1}/2000000"


def test_several_ranges_are_answered_with_the_whole_file(client: FlaskClient) -> None:
    file_id = upload(client).json["id"]

    response = client.get(f"/v1/files/{file_id}/content", headers={"Range": "bytes=0-1,3-4"})

    assert (response.status_code, response.data) == (200, LINE)


@pytest.mark.parametrize("data", [b"short", b""])
def test_a_suffix_longer_than_the_file_means_all_of_it(client: FlaskClient, world: World, data: bytes) -> None:
    file_id = put(world, data)

    response = client.get(f"/v1/files/{file_id}/content", headers={"Range": "bytes=-99999999"})

    assert (response.status_code, response.data) == (200, data)


def test_a_range_past_the_end_says_how_long_the_file_is(client: FlaskClient) -> None:
    file_id = upload(client).json["id"]

    response = client.get(f"/v1/files/{file_id}/content", headers={"Range": "bytes=500-"})

    assert error_of(response, 416)
    assert response.headers["Content-Range"] == f"bytes */{len(LINE)}"


def test_content_whose_bytes_are_missing_is_a_404_that_says_so(client: FlaskClient, world: World) -> None:
    file_id = put(world, b"abc")
    world.blobs.stored.clear()

    error = error_of(client.get(f"/v1/files/{file_id}/content"), 404)

    assert error["code"] == "content_missing"
    assert "missing in the storage" in error["message"]


def test_content_that_did_not_change_is_not_sent_again(client: FlaskClient) -> None:
    file_id = upload(client).json["id"]
    tag = client.get(f"/v1/files/{file_id}/content").headers["ETag"]

    response = client.get(f"/v1/files/{file_id}/content", headers={"If-None-Match": tag})

    assert (response.status_code, response.data) == (304, b"")


def test_the_same_upload_with_the_same_key_makes_one_file(client: FlaskClient, world: World) -> None:
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "k"

    first, again = upload(client), upload(client)
    other = upload(client, b"{}\n")

    assert again.json == first.json
    assert error_of(other, 409)["param"] == "Idempotency-Key"
    assert other.headers["x-should-retry"] == "false"
    assert len(world.blobs.stored) == 1
    assert not world.blobs.unfinished


LINES = b"".join(b'{"number": %d}\n' % number for number in range(5))


@pytest.mark.parametrize("name", ["offset", "skip"])
@pytest.mark.parametrize("number", [0, 1, 4, 5, 6, 1_000_000_000])
def test_lines_that_a_caller_has_are_left_out(client: FlaskClient, world: World, name: str, number: int) -> None:
    file_id = put(world, LINES)

    answer = client.get(f"/v1/files/{file_id}/content?{name}={number}")

    assert answer.data == b"".join(LINES.splitlines(keepends=True)[number:])
    assert answer.content_length == len(answer.data)
    assert (answer.headers["X-Last-Line"], answer.headers["X-Incomplete"]) == ("5", "false")


@pytest.mark.parametrize(
    ("content", "total"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2), (b"x" * 3_000_000 + b"\ny", 2)]
)
def test_the_last_line_counts_whether_it_ends_or_not(
    client: FlaskClient, world: World, content: bytes, total: int
) -> None:
    file_id = put(world, content)

    for _ in range(2):
        assert client.get(f"/v1/files/{file_id}/content").headers["X-Last-Line"] == str(total)
    assert client.get(f"/v1/files/{file_id}/content?skip={total}").data == b""


def test_a_line_far_within_a_large_file_is_found(client: FlaskClient, world: World) -> None:
    lines = [b"%d:" % number + b"x" * 1_000 for number in range(5_000)]
    file_id = put(world, b"\n".join(lines))

    assert client.get(f"/v1/files/{file_id}/content?offset=4321").data == b"\n".join(lines[4_321:])


@pytest.mark.parametrize("query", ["skip=-1", "offset=x", "skip=1.5", "offset=", "skip=1&offset=2", "skip=1000000001"])
def test_a_number_of_lines_that_is_none_is_refused(client: FlaskClient, world: World, query: str) -> None:
    file_id = put(world, LINES)

    assert error_of(client.get(f"/v1/files/{file_id}/content?{query}"), 400)["param"] in {"skip", "offset"}


def test_a_file_that_is_no_lines_has_no_last_one(client: FlaskClient, world: World) -> None:
    assert "X-Last-Line" not in client.get(f"/v1/files/{put(world, LINES, purpose='vision')}/content").headers


def test_a_page_of_files_is_as_its_description_says(client: FlaskClient, world: World) -> None:
    put(world, LINES)

    page = client.get("/v1/files").json

    assert page == FileListSchema().dump(SimpleNamespace(**page, items=[SimpleNamespace(**page["data"][0])]))


def test_a_page_of_files_that_nobody_bounded_has_a_hundred(client: FlaskClient, world: World) -> None:
    for number in range(101):
        world.file_store.add(File(f"file-{number}", DEFAULT_TENANT, "batch", "a", 1, f"files/{number}", number))

    first = client.get("/v1/files").json
    assert (len(first["data"]), first["has_more"]) == (100, True)
    assert len(client.get("/v1/files?limit=10000").json["data"]) == 101
