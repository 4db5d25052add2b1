import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.nesting import is_nested_deeper

LEVELS = 100
# Longer than what is looked at together.
MANY = 40_000


def nest(levels: int, inner: bytes = b"") -> bytes:
    return b"[" * levels + inner + b"]" * levels


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


SHALLOW = {
    "exactly as deep as may be": nest(LEVELS),
    "objects exactly as deep as may be": b'{"":' * LEVELS + b"1" + b"}" * LEVELS,
    "many arrays side by side": nest(1, b"[]," * MANY + b"[]"),
    "many arrays as deep as may be side by side": nest(1, (nest(LEVELS - 1) + b",") * 500 + b"1"),
    "brackets in a string": b'"' + b"[" * MANY + b'"',
    "brackets in many strings": nest(1, b'"[",' * MANY + b"1"),
    "brackets in and out of strings": nest(1, b'["["],' * MANY + b"1"),
    "brackets behind an escaped quote": b'"' + b'\\"[' * MANY + b'"',
    "brackets behind a run of backslashes and an escaped quote": b'"' + b'\\\\\\"[' * MANY + b'"',
    "a string that ends with a backslash, before brackets": nest(1, b'"\\\\",[],' * MANY + b"1"),
    "other escapes before the end of a string": nest(1, b'"\\n","[",' * MANY + b"1"),
}
DEEP = {
    "one level too many": nest(LEVELS + 1),
    "objects one level too many": b'{"":' * (LEVELS + 1) + b"1" + b"}" * (LEVELS + 1),
    "one level too many behind much else": nest(1, b"[]," * MANY + nest(LEVELS)),
    "one level too many behind strings of brackets": nest(1, b'"]",' * MANY + nest(LEVELS)),
    "one level too many behind strings of escapes": nest(1, b'"\\\\\\"]\\\\",' * MANY + nest(LEVELS)),
    "a string between each level": b'["]",' * (LEVELS + 1) + b"1" + b"]" * (LEVELS + 1),
    "thousands of levels": nest(5_000),
}


@pytest.mark.parametrize("case", SHALLOW)
def test_a_text_within_the_levels_is_not_deeper(case: str) -> None:
    assert not is_nested_deeper(SHALLOW[case], LEVELS)


@pytest.mark.parametrize("case", DEEP)
def test_a_text_beyond_the_levels_is_deeper(case: str) -> None:
    assert is_nested_deeper(DEEP[case], LEVELS)


@given(
    st.recursive(
        st.text('[]{}"\\aé\n', max_size=6),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3),
        max_leaves=40,
    ),
    st.integers(0, 8),
)
def test_the_levels_are_those_of_the_value(value: object, levels: int) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()

    assert is_nested_deeper(text, levels) == (depth_of(value) > levels)
