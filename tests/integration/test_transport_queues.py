"""Messages of several queues, each taken as far as there is room for it, over a real broker."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from kombu.asynchronous.timer import Timer

from tests.clocks import Clocks, need_library
from tests.integration.processes import until
from tests.integration.transport_house import House, open_broker
from workers.intake import keep_looking

GPU, CPU, PLAIN = "lines.gpu", "lines.cpu", "lines"


@pytest.fixture(scope="module")
def broker() -> Iterator[redis.Redis]:
    with open_broker() as client:
        yield client


@pytest.fixture
def house(broker: redis.Redis) -> Iterator[House]:
    house = House(broker, GPU, CPU, PLAIN)
    # A request that is open stays so for longer than any test waits for a message.
    house.channel.brpop_timeout = 15
    yield house
    house.connection.release()


@pytest.fixture
def wanted() -> dict[str, int | None]:
    return {GPU: 0, CPU: 0, PLAIN: None}


def queues_of(house: House) -> list[str]:
    return [message.delivery_info["routing_key"] for message in house.messages]


def assert_nothing_comes(house: House) -> None:
    with pytest.raises(TimeoutError):
        house.connection.drain_events(timeout=0.3)


def test_a_queue_without_room_is_not_asked(house: House, wanted: dict[str, int | None]) -> None:
    wanted[CPU] = 1
    with house.consuming(wanted.__getitem__):
        house.open_request()
        house.publish(1, GPU)
        assert_nothing_comes(house)
        house.publish(1, CPU)
        house.drain_until(1)

    assert queues_of(house) == [CPU]
    assert house.broker.llen(GPU) == 1


def test_each_queue_is_taken_as_far_as_there_is_room_for_it(house: House, wanted: dict[str, int | None]) -> None:
    wanted |= {GPU: 3, CPU: 20}
    house.publish(40, GPU)
    house.publish(60, CPU)

    def left(queue: str) -> int | None:
        room = wanted[queue]
        return None if room is None else room - queues_of(house).count(queue)

    with house.consuming(left):
        house.drain_until(23)
        assert_nothing_comes(house)

    assert (house.broker.llen(GPU), house.broker.llen(CPU)) == (37, 40)


def test_a_queue_that_gets_room_is_asked_though_a_request_for_another_is_open(
    house: House, wanted: dict[str, int | None]
) -> None:
    wanted[CPU] = 1
    house.publish(1, GPU)
    with house.consuming(wanted.__getitem__):
        house.open_request()

        wanted[GPU] = 1
        house.drain_until(1)

    assert queues_of(house) == [GPU]


def test_the_one_message_that_waits_is_taken_beside_an_open_request(
    house: House, wanted: dict[str, int | None]
) -> None:
    wanted[CPU] = 1
    house.publish(1, GPU)
    with house.consuming(wanted.__getitem__):
        house.open_request()
        wanted[GPU] = 1

        house.channel.take_waiting()
        taken = queues_of(house)
        wanted[GPU] = 0
        house.publish(1, CPU)
        house.drain_until(2)

    assert taken == [GPU]
    assert queues_of(house) == [GPU, CPU]


def test_half_of_what_waits_is_left_to_others_beside_an_open_request_too(
    house: House, wanted: dict[str, int | None]
) -> None:
    wanted[CPU] = 1
    house.publish(9, GPU)
    with house.consuming(wanted.__getitem__):
        house.open_request()
        wanted[GPU] = 100

        house.channel.take_waiting()

    assert (len(house.messages), house.broker.llen(GPU)) == (4, 5)


def test_nothing_is_taken_beside_an_open_request_of_a_queue_without_room(
    house: House, wanted: dict[str, int | None]
) -> None:
    wanted[CPU] = 1
    house.publish(3, GPU)
    with house.consuming(wanted.__getitem__):
        house.open_request()

        house.channel.take_waiting()

    assert house.messages == []
    assert house.broker.llen(GPU) == 3


def test_a_queue_of_which_the_number_is_of_no_matter_is_asked_along_with_the_others(
    house: House, wanted: dict[str, int | None]
) -> None:
    wanted[CPU] = 1
    with house.consuming(wanted.__getitem__):
        house.open_request()
        house.publish(3, PLAIN)
        house.drain_until(1)

    assert queues_of(house) == [PLAIN]
    assert house.broker.llen(PLAIN) == 2


def test_a_queue_of_which_the_number_is_of_no_matter_keeps_no_request_open_by_itself(
    house: House, wanted: dict[str, int | None]
) -> None:
    house.publish(1, PLAIN)
    with house.consuming(wanted.__getitem__):
        assert_nothing_comes(house)

        assert not house.channel._in_poll
        wanted[GPU] = 1
        house.drain_until(1)

    assert queues_of(house) == [PLAIN]


def test_where_no_number_matters_messages_are_asked_for_as_by_kombu(house: House) -> None:
    house.publish(1, PLAIN)

    house.take(1, wanted=lambda _: None)

    assert queues_of(house) == [PLAIN]


def test_what_is_given_back_goes_back_to_the_queue_it_came_from(house: House, wanted: dict[str, int | None]) -> None:
    wanted |= {GPU: 10, CPU: 10}
    house.publish(2, GPU)
    house.publish(2, CPU)
    house.take(4, wanted=wanted.__getitem__)

    for message in house.messages:
        message.requeue()

    assert (house.broker.llen(GPU), house.broker.llen(CPU)) == (2, 2)
    assert house.noted() == {}


def test_a_message_is_taken_though_the_brokers_clock_was_set_back_while_a_request_for_others_was_open(
    tmp_path: Path, wanted: dict[str, int | None]
) -> None:
    clocks, timer = Clocks(tmp_path, need_library()), Timer()
    wanted[CPU] = 1
    with open_broker(clocks.environ("broker")) as client:
        house = House(client, GPU, CPU, PLAIN)
        keep_looking(timer, house.channel)
        with house.consuming(wanted.__getitem__):
            house.open_request()
            clocks.set(-3_600, "broker")
            wanted[GPU] = 1
            house.publish(1, GPU)

            def look() -> list[str]:
                _, entry = next(iter(timer))
                if entry is not None:
                    timer.apply_entry(entry)
                with suppress(TimeoutError):
                    house.connection.drain_events(timeout=0.1)
                return queues_of(house)

            try:
                assert until(look, 30, "the message is taken") == [GPU]
            finally:
                # The open request ends by the broker's clock, and whoever stops to consume reads its answer.
                clocks.set(60, "broker")
        house.connection.release()
