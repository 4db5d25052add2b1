from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import MAX_LINE_BYTES, MIB
from app.services.validation import SourceLine, read_lines


def pieces_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[start:cut]
        start = cut
    yield data[start:]


@given(st.text(alphabet="ab \r\n\ufeff", max_size=60).map(str.encode), st.lists(st.integers(0, 1_000), max_size=8))
def test_lines_are_the_same_however_the_file_is_cut_into_pieces(data: bytes, cuts: list[int]) -> None:
    lines = list(read_lines(pieces_of(data, cuts)))

    expected = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if bare.strip():
            expected[number] = bare.removesuffix(b"\r")
    assert {line.number: line.data for line in lines} == expected
    assert all(line.data is not None and data[line.offset :].startswith(line.data) for line in lines)


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
    data = b"\xef\xbb\xbf" + b"x" * MAX_LINE_BYTES + ending

    (line,) = read_lines([data[: 5 * MIB], data[5 * MIB :]])

    assert line.data == b"x" * MAX_LINE_BYTES
