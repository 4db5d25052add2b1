from collections.abc import Iterator

import fakeredis
import pytest
from redis.exceptions import ResponseError

from app.adapters.broker.key_space import KeySpaceRedis


@pytest.fixture
def client() -> Iterator[KeySpaceRedis]:
    pool = fakeredis.FakeRedis(server=fakeredis.FakeServer()).connection_pool
    client = KeySpaceRedis(connection_pool=pool, global_keyprefix="wylon:id:")
    client.set("other", "garbage")
    yield client
    client.close()


def test_a_command_whose_keys_are_not_known_is_refused_before_it_is_sent() -> None:
    client = KeySpaceRedis(port=9, global_keyprefix="wylon:id:")

    with pytest.raises(ValueError, match=r"^SORT is not sent: add it"):
        client.execute_command("SORT", "queue")


def test_a_command_that_meets_a_value_of_another_type_deletes_the_value_and_is_executed(client: KeySpaceRedis) -> None:
    assert client.zadd("other", {"tag": 1.0}) == 1

    assert client.zrange("other", 0, -1) == [b"tag"]


@pytest.mark.parametrize("transaction", [True, False])
def test_each_command_of_a_pipeline_is_executed_once_whichever_values_are_of_another_type(
    client: KeySpaceRedis, transaction: bool
) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        pipe.incr("count").zrem("other", "tag").sadd("names", "one").zadd("other", {"tag": 1.0}).incr("count")
        answers = pipe.execute()

    assert answers == [1, 0, 1, 1, 2]
    assert client.smembers("names") == {b"one"}
    assert client.zrange("other", 0, -1) == [b"tag"]


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_raises_every_other_error_as_redis_py_does(client: KeySpaceRedis, transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        pipe.zrem("other", "tag").incr("words")
        client.set("words", "no number")
        with pytest.raises(ResponseError, match=r"Command # 2 .*not an integer"):
            pipe.execute()
        assert client.exists("other") == 0

        client.set("other", "garbage")
        pipe.incr("words").zrem("other", "tag")
        refused, removed = pipe.execute(raise_on_error=False)

    assert isinstance(refused, ResponseError)
    assert removed == 0
