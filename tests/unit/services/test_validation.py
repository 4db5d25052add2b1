from dataclasses import replace

import pytest

from app.domain.lifecycle import Status
from app.domain.limits import MAX_LINE_ERRORS, MAX_LINES, MIB
from tests.unit.services.validation_house import House, request


@pytest.fixture
def house() -> House:
    return House()


def test_a_good_file_is_accepted_with_its_plan(house: House) -> None:
    lines = [request(number) for number in range(1_500)]

    planned = house.planned_of(b"\n".join(lines) + b"\n")

    assert planned == lines
    assert (house.batch.status, house.batch.total, house.batch.lines_per_task) == (Status.IN_PROGRESS, 1_500, 2)
    assert house.batch.model == "small"
    assert house.blobs.unfinished == set()


def test_the_operators_lines_per_task_is_kept() -> None:
    house = House(pinned=1)

    house.planned_of(b"\n".join(request(number) for number in range(1_500)))

    assert house.batch.lines_per_task == 1


@pytest.mark.parametrize(
    "data",
    [
        b"%b\n%b\n",
        b"%b\n%b",
        b"\xef\xbb\xbf%b\n%b\n",
        b"%b\r\n%b\r\n",
        b"\n\n%b\n  \n\r\n%b\n\n",
        b"\xef\xbb\xbf\r\n%b\r\n%b",
    ],
    ids=["plain", "no final newline", "byte order mark", "CRLF", "blank lines", "mark, CRLF, no final newline"],
)
def test_files_of_every_editor_are_read(house: House, data: bytes) -> None:
    lines = (request("a"), request("b"))

    assert house.planned_of(data % lines) == list(lines)


def test_numbers_count_blank_lines(house: House) -> None:
    errors = house.errors_of(b"\n" + request("a") + b"\r\n \nbroken\n")

    assert [(error.code, error.line) for error in errors] == [("invalid_json_line", 4)]


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\r\n \n", b"\xef\xbb\xbf", b"\n" * (3 * MIB)])
def test_a_file_without_requests_is_empty(house: House, data: bytes) -> None:
    errors = house.errors_of(data)

    assert [(error.code, error.line, error.param) for error in errors] == [("empty_file", None, None)]


def test_every_bad_line_is_reported_with_its_number(house: House) -> None:
    lines = [request("a"), b"x", request("b", stream=True), request("c", url="/v1/other"), request("d", model="none")]

    errors = house.errors_of(b"\n".join([*lines, request("a"), b'{"custom_id":"e"}']))

    assert [(error.line, error.code, error.param) for error in errors] == [
        (2, "invalid_json_line", None),
        (3, "streaming_unsupported", "body.stream"),
        (4, "invalid_url", "url"),
        (5, "model_not_found", "body.model"),
        (6, "duplicate_custom_id", "custom_id"),
        (7, "missing_required_parameter", "method"),
    ]


@pytest.mark.parametrize("bad", [MAX_LINE_ERRORS, MAX_LINE_ERRORS + 1, MAX_LINE_ERRORS + 250])
def test_past_the_cap_a_last_entry_says_how_many_more(house: House, bad: int) -> None:
    errors = house.errors_of(b"x\n" * bad)

    assert [error.line for error in errors[:MAX_LINE_ERRORS]] == list(range(1, MAX_LINE_ERRORS + 1))
    rest = bad - MAX_LINE_ERRORS
    assert [(error.line, error.message.split()[0]) for error in errors[MAX_LINE_ERRORS:]] == (
        [(None, str(rest))] if rest else []
    )


def test_as_many_requests_as_allowed_are_accepted(house: House) -> None:
    assert len(house.planned_of(b"\n".join(request(number) for number in range(MAX_LINES)))) == MAX_LINES


def test_one_request_more_is_one_clear_error(house: House) -> None:
    errors = house.errors_of(b"broken\n" + b"\n".join(request(number) for number in range(MAX_LINES)))

    assert [(error.code, error.line) for error in errors] == [("too_many_tasks", None)]
    assert "50,000" in errors[0].message


def test_a_line_over_the_limit_is_reported_and_the_next_are_read(house: House) -> None:
    errors = house.errors_of(request("a", x="x" * (10 * MIB)) + b"\nbroken\n" + request("b"))

    assert [(error.code, error.line) for error in errors] == [("line_too_long", 1), ("invalid_json_line", 2)]


def test_long_custom_ids_are_told_apart_and_found_again(house: House) -> None:
    errors = house.errors_of(b"\n".join(request("x" * 400 + end) for end in ("a", "b", "a")))

    assert [(error.code, error.line) for error in errors] == [("duplicate_custom_id", 3)]


@pytest.mark.parametrize("model", ["\0", "x" * 10_000])
def test_a_model_name_that_no_database_takes_is_not_found(model: str) -> None:
    house = House(models=(model,))

    errors = house.errors_of(request("a", model=model))

    assert [error.code for error in errors] == ["model_not_found"]


def test_a_batch_of_several_models_has_no_model_of_its_own(house: House) -> None:
    house.planned_of(request("a", model="small") + b"\n" + request("b", model="large"))

    assert house.batch.model is None


def test_embedding_inputs_are_counted_over_the_batch(house: House) -> None:
    many = [request(number, url="/v1/embeddings", input=["x"] * 30_000) for number in range(2)]

    errors = house.errors_of(b"\n".join(many), "/v1/embeddings")

    assert [(error.code, error.line, error.param) for error in errors] == [("invalid_request", None, "body.input")]
    assert "50,000" in errors[0].message


def test_an_input_file_that_was_deleted_since_the_create_is_validated_all_the_same(house: House) -> None:
    house.arrange(request("a"))
    house.files.mark_deleted("tenant", "file-in", house.clock.now())

    assert house.service.validate("batch_1") is True

    assert (house.batch.status, house.batch.total) == (Status.IN_PROGRESS, 1)


def test_an_input_file_that_expired_since_the_create_is_validated_all_the_same(house: House) -> None:
    house.arrange(request("a"))
    file = house.files.get("tenant", "file-in", house.clock.now())
    assert file is not None
    house.files.add(replace(file, expires_at=house.clock.now() + 1))
    house.clock.advance(2)

    assert house.service.validate("batch_1") is True


def test_a_file_whose_bytes_are_gone_fails_the_batch(house: House) -> None:
    house.arrange(request("a"))
    house.blobs.delete("files/in")

    house.service.validate("batch_1")

    assert [(error.code, error.param) for error in house.batch.errors] == [("input_missing", "file_id")]
    assert "file-in are missing in the storage" in house.batch.errors[0].message
    house.assert_nothing_left()


@pytest.mark.parametrize("kept", [0, 1])
def test_an_input_of_which_only_the_first_lines_are_left_is_missing_and_no_shorter_file(
    house: House, kept: int
) -> None:
    lines = [request(number) + b"\n" for number in range(3)]
    house.arrange(b"".join(lines))
    house.blobs.stored["files/in"] = b"".join(lines[:kept])

    assert house.service.validate("batch_1") is False

    assert house.batch.status is Status.FAILED
    assert [error.code for error in house.batch.errors] == ["input_missing"]
    house.assert_nothing_left()
