import pytest

from app.domain.line import check_line
from tests.unit.domain.request_lines import CHAT, body, line


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("one", 1),
        (["one", 'with ", " inside', "three"], 3),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        ([], 1),
        (["x"] * 60_000, 60_000),
    ],
)
def test_the_inputs_of_an_embeddings_line_are_counted(given: object, inputs: int) -> None:
    data = line(url="/v1/embeddings", body={"model": "m", "input": given})

    assert check_line(data, "/v1/embeddings")[:3] == ("a", "m", inputs)


@pytest.mark.parametrize(
    ("given", "requested"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 200, "max_tokens": 100}, 200),
        ({"max_output_tokens": 300}, 300),
        ({"max_tokens": None}, 0),
        ({"max_tokens": "many"}, 0),
        ({"max_tokens": -5}, 0),
        ({"max_tokens": 1.5}, 0),
    ],
)
def test_the_tokens_of_a_line_are_estimated_by_its_length_and_what_it_asks_for(
    given: dict[str, object], requested: int
) -> None:
    data = body(**given)

    assert check_line(data, CHAT).tokens == len(data) // 4 + requested


@pytest.mark.parametrize("asked", [2**32 - 2, 2**32, 10**30])
def test_an_estimate_of_tokens_fits_into_the_plan(asked: int) -> None:
    assert check_line(body(max_tokens=asked), CHAT).tokens == 2**32 - 1
