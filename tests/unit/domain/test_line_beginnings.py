import pytest

from app.domain.line import check_line
from tests.unit.domain.request_lines import CHAT, line

PROMPT = [{"role": "system", "content": "s" * 300}]
TOOLS = [{"type": "function", "function": {"name": "f" * 300}}]


def key(endpoint: str = CHAT, **given: object) -> int:
    """Return the upper bits of a line's key, those of what the model sees in the first 256 bytes."""
    return check_line(line(url=endpoint, body={"model": "m", **given}), endpoint).prefix_key >> 48


def test_lines_that_begin_alike_share_a_key() -> None:
    hello, goodbye = ([*PROMPT, {"role": "user", "content": text}] for text in ("hello", "goodbye"))

    assert key(messages=hello) == key(messages=goodbye)
    assert key(messages=hello) != key(messages=hello[1:])
    # Each model keeps its own: they stay mixed as they are in the file.
    assert key(messages=hello, model="other") == key(messages=hello)


@pytest.mark.parametrize(
    ("endpoint", "first", "then"),
    [
        (CHAT, {"tools": TOOLS}, {"messages": PROMPT}),
        ("/v1/responses", {"tools": TOOLS}, {"instructions": "i" * 300}),
        ("/v1/responses", {"instructions": "i" * 300}, {"input": "x" * 300}),
        ("/v1/messages", {"system": "s" * 300}, {"messages": PROMPT}),
        ("/v1/completions", {"prompt": "p" * 300}, {}),
    ],
)
def test_what_the_model_sees_first_makes_the_key(
    endpoint: str, first: dict[str, object], then: dict[str, object]
) -> None:
    needed = {"messages": [], "prompt": "", "input": ""}

    assert key(endpoint, **needed | first | then) == key(endpoint, **needed | first)
    assert key(endpoint, **needed | first | then) == key(endpoint, **needed | then | first)
    assert key(endpoint, **needed | first) != key(endpoint, **needed | then)


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/moderations"])
def test_lines_whose_model_keeps_nothing_are_all_alike(endpoint: str) -> None:
    assert {key(endpoint, input=text * 300) for text in "abc"} == {0}
