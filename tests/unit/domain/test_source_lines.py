import sys
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import MAX_LINE_BYTES, MIB
from app.domain.source_lines import SourceLine, read_lines

_BOM = b"\xef\xbb\xbf"
# What lines are made of where the blank ones matter: each kind of white space, and few other letters.
_TEXT = st.lists(
    st.sampled_from([b"a", b"bc", b" ", b"\t", b"\v", b"\f", b"\r", b"\r\n", b"\n", b"\n\n\n", b" \n", _BOM]),
    max_size=60,
).map(b"".join)


def pieces_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[start:cut]
        start = cut
    yield data[start:]


def lines_one_by_one(data: bytes) -> Iterator[SourceLine]:
    """Yield what `read_lines` has to, without any haste."""
    offset = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        mark = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
        if line[mark:].strip():
            yield SourceLine(number, offset + mark, line[mark:].removesuffix(b"\r"))
        offset += len(line) + 1


@given(_TEXT, st.lists(st.integers(0, 1_000), max_size=8))
def test_lines_are_the_same_however_the_file_is_cut_into_pieces(data: bytes, cuts: list[int]) -> None:
    lines = list(read_lines(pieces_of(data, cuts)))

    assert lines == list(lines_one_by_one(data))


@pytest.mark.parametrize("blank", [b"\n", b" \n", b"\r\n", b"\n \n\t\r\n"])
def test_blank_lines_are_passed_over_together(blank: bytes) -> None:
    piece = b"x\n" + blank * (MIB // 8)
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    profiler = sys.getprofile()
    sys.setprofile(count)
    try:
        lines = list(read_lines([piece] * 3))
    finally:
        sys.setprofile(profiler)

    assert [line.data for line in lines] == [b"x"] * 3
    # A few for each piece and each line of text: a call or more for each blank one would be some hundred thousand.
    assert calls < 100


def test_a_line_without_an_end_is_not_held() -> None:
    held = []

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * MIB
        held.append("read to the end")

    assert list(read_lines(endless())) == [SourceLine(1, 0, None)]
    assert held == ["read to the end"]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_line_exactly_at_the_limit_is_read_whatever_its_ending(ending: bytes) -> None:
    data = _BOM + b"x" * MAX_LINE_BYTES + ending

    (line,) = read_lines([data[: 5 * MIB], data[5 * MIB :]])

    assert line.data == b"x" * MAX_LINE_BYTES


def test_a_line_of_blanks_over_the_limit_is_a_line() -> None:
    spaces = [b" " * MIB] * 9

    lines = list(read_lines([b"\n", *spaces, b"\n\nx"]))

    assert lines == [SourceLine(2, 1, None), SourceLine(4, 9 * MIB + 3, b"x")]
