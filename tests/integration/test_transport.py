"""Messages that are taken many at a time and acknowledged together, over a real broker."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.transport_house import QUEUE, House, open_broker


@pytest.fixture(scope="module")
def broker() -> Iterator[redis.Redis]:
    with open_broker() as client:
        yield client


@pytest.fixture
def house(broker: redis.Redis) -> Iterator[House]:
    house = House(broker)
    yield house
    house.connection.release()


def test_what_waits_is_taken_in_order_as_far_as_it_is_wanted(house: House) -> None:
    house.publish(40)

    house.take(11, wanted=lambda _: 11 - len(house.messages))

    assert [int(message.payload[0][0]) for message in house.messages] == list(range(11))
    assert house.broker.llen(QUEUE) == 29


def test_half_of_what_waits_is_left_to_other_workers(house: House) -> None:
    house.publish(41)

    house.take(1, wanted=lambda _: 100)

    assert len(house.messages) == 21


def test_messages_taken_together_are_noted_as_kombu_notes_one(house: House) -> None:
    house.publish(3)

    house.take(3, wanted=lambda _: 10)

    noted = house.noted()
    assert noted == {message.delivery_tag: [message._raw, "", QUEUE] for message in house.messages}
    assert {str(tag, "utf-8") for tag in house.broker.zrange("unacked_index", 0, -1)} == set(noted)


def test_without_a_number_that_is_wanted_one_is_taken_at_a_time(house: House) -> None:
    house.publish(3)

    house.take(1, wanted=None)

    assert len(house.messages) == 1


def test_acknowledgements_of_a_moment_go_out_together(house: House) -> None:
    house.publish(3)
    house.take(3, wanted=lambda _: 10)
    house.gather()

    for message in house.messages:
        message.ack()

    assert len(house.noted()) == 3
    assert len(house.calls) == 1
    house.calls[0]()
    assert house.noted() == {}
    assert house.broker.zcard("unacked_index") == 0


def test_many_acknowledgements_do_not_wait(house: House) -> None:
    house.publish(256)
    house.take(256, wanted=lambda _: 300)
    house.gather()

    for message in house.messages:
        message.ack()

    assert house.noted() == {}


def test_acknowledgements_that_wait_go_out_when_gathering_ends(house: House) -> None:
    house.publish(2)
    house.take(2, wanted=lambda _: 10)
    house.gather()
    house.messages[0].ack()

    house.channel.qos.stop_gathering()

    assert set(house.noted()) == {house.messages[1].delivery_tag}
    house.messages[1].ack()
    assert house.noted() == {}


def test_a_message_that_is_given_back_waits_again(house: House) -> None:
    house.publish(2)
    house.take(2, wanted=lambda _: 10)
    house.gather()

    house.messages[1].requeue()

    assert set(house.noted()) == {house.messages[0].delivery_tag}
    assert house.broker.llen(QUEUE) == 1


def test_acknowledgements_that_find_no_broker_do_not_stop_the_loop(house: House) -> None:
    house.publish(1)
    house.take(1, wanted=lambda _: 10)
    house.gather()
    house.messages[0].ack()

    def fail(*_: Any, **__: Any) -> Any:
        raise redis.ConnectionError("gone")

    house.channel.qos.pipe_or_acquire = fail
    house.calls[0]()

    assert len(house.noted()) == 1


def test_what_an_open_request_brings_is_taken_though_nothing_is_wanted_any_more(house: House) -> None:
    wanted = [1]
    with house.consuming(lambda _: wanted[0]):
        house.open_request()

        wanted[0] = 0
        house.publish(1)
        house.drain_until(1)

    assert set(house.noted()) == {house.messages[0].delivery_tag}


def test_once_nothing_is_wanted_no_further_request_is_made(house: House) -> None:
    wanted = [1]
    with house.consuming(lambda _: wanted[0]):
        house.open_request()
        wanted[0] = 0
        house.publish(3)
        house.drain_until(1)

        with pytest.raises(TimeoutError):
            house.connection.drain_events(timeout=0.3)

    assert house.broker.llen(QUEUE) == 2


def test_what_was_true_as_a_message_was_asked_for_comes_with_it(house: House) -> None:
    terms, seen = [1], list[tuple[int, int]]()
    house.channel.qos.note = lambda: terms[0]
    house.channel.qos.on_take = lambda term: seen.append((term, len(house.messages)))
    with house.consuming(lambda _: 1):
        house.open_request()
        terms[0] = 2
        # Beside the open request, which then brings the other.
        house.publish(2)
        house.channel.take_waiting()
        house.drain_until(2)

    assert seen[:2] == [(2, 0), (1, 1)]


def test_no_more_are_taken_than_may_be_unacknowledged(house: House) -> None:
    house.channel.basic_qos(prefetch_count=1)
    house.publish(40)

    house.take(1, wanted=lambda _: 30)

    assert len(house.messages) == 1
    assert house.broker.llen(QUEUE) == 39


def test_a_connection_that_closes_gives_nothing_back(house: House) -> None:
    house.publish(3)
    house.take(3, wanted=lambda _: 10)

    house.channel.close()

    assert house.broker.llen(QUEUE) == 0
    assert len(house.noted()) == 3


def test_acknowledgements_outlive_notes_of_another_type(house: House) -> None:
    house.publish(2)
    house.take(2, wanted=lambda _: 10)
    for key in ("unacked", "unacked_index"):
        house.broker.set(key, "garbage")

    for message in house.messages:
        message.ack()

    assert not house.broker.exists("unacked", "unacked_index")
