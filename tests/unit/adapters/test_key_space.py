import pytest

from app.adapters.broker.key_space import KeySpaceRedis


def test_a_command_whose_keys_are_not_known_is_refused_before_it_is_sent() -> None:
    client = KeySpaceRedis(port=9, global_keyprefix="wylon:id:")

    with pytest.raises(ValueError, match=r"^SORT is not sent: add it"):
        client.execute_command("SORT", "queue")
