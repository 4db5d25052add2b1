import json

import pytest

from app.cli.client.failures import most_frequent_error


def answered(status: int, body: object) -> str:
    return json.dumps({"custom_id": "a", "response": {"status_code": status, "body": body}, "error": None})


def unanswered(code: str, message: str) -> str:
    return json.dumps({"custom_id": "a", "response": None, "error": {"code": code, "message": message}})


def test_the_most_frequent_error_is_counted_by_status_and_message() -> None:
    lines = [
        answered(404, {"error": {"message": "The model `x` does not exist."}}),
        answered(400, {"error": {"message": "Too long."}}),
        answered(404, {"error": {"message": "The model `x` does not exist."}}),
    ]

    assert most_frequent_error(lines) == ("HTTP 404: The model `x` does not exist.", 2)


def test_a_line_without_an_answer_counts_by_its_code() -> None:
    assert most_frequent_error([unanswered("connection_failed", "Refused.")]) == ("connection_failed: Refused.", 1)


def test_lines_that_never_ran_did_not_fail() -> None:
    lines = [unanswered("batch_cancelled", "x"), unanswered("batch_expired", "x")]

    assert most_frequent_error(lines) is None


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"message": "flat"}, "flat"),
        ({"detail": "fastapi"}, "fastapi"),
        ({"error": "a word"}, "a word"),
        ("text", "text"),
        ([1], "[1]"),
        (None, "null"),
        ({"error": {"message": "red \x1b[31m"}}, "red [31m"),
    ],
)
def test_the_message_is_found_in_every_shape_and_is_safe_for_a_terminal(body: object, shown: str) -> None:
    assert most_frequent_error([answered(500, body)]) == (f"HTTP 500: {shown}", 1)


@pytest.mark.parametrize("line", ["{broken", "[]", "7", "{}", "[" * 100_000])
def test_a_line_that_is_no_result_is_passed_over(line: str) -> None:
    assert most_frequent_error([line, unanswered("a", "b")]) == ("a: b", 1)


def test_messages_that_all_differ_are_counted_in_bounded_memory() -> None:
    found = most_frequent_error(unanswered("a", str(number)) for number in range(5_000))

    assert found == ("other errors", 4_000)
