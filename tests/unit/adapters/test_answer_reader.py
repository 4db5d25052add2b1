"""The reader of a connection's answers, one after the other."""

from app.adapters.upstream.answer_reader import AnswerReader
from tests.unit.adapters.upstream_server import answer


def test_the_bytes_of_answers_that_come_in_pieces_are_counted_for_each_answer_by_itself() -> None:
    reader = AnswerReader(100)
    whole = answer(b"x" * 90)

    for _ in range(5_000):
        reader.expect()
        assert not reader.feed(whole[:-1])
        assert reader.feed(whole[-1:])
        assert reader.reply().body == b"x" * 90


def test_headers_of_an_answer_that_came_in_pieces_are_none_of_the_next_one() -> None:
    reader = AnswerReader(100)
    first = answer(b"busy", "retry-after: 7", status="503 Busy")
    reader.expect()
    assert not reader.feed(first[:-1])
    assert reader.feed(first[-1:])
    busy = reader.reply()

    reader.expect()
    assert reader.feed(answer(b"{}"))

    assert reader.reply().headers == {"content-length": "2"}
    assert busy.headers == {"content-length": "4", "retry-after": "7"}


def test_headers_of_an_interim_answer_are_none_of_the_final_one() -> None:
    reader = AnswerReader(100)
    reader.expect()
    assert not reader.feed(b"HTTP/1.1 103 Early Hints\r\nretry-after: 7\r\n\r\n")

    assert reader.feed(answer(b"{}"))

    assert reader.reply().headers == {"content-length": "2"}


def test_of_an_answer_that_says_it_is_too_large_no_more_than_its_start_is_waited_for() -> None:
    reader = AnswerReader(2**20)
    reader.expect()

    assert not reader.feed(answer(b"", length=2**30))
    assert not reader.feed(b"x" * 7)
    assert reader.size == 7
    assert reader.feed(b"x" * 2**17)
