import re

from app.domain.api_key import keyed_hash, new_api_key, new_key_id, plain_hash, redacted


def test_keys_and_ids_are_random_and_have_their_form() -> None:
    made = {(new_api_key(), new_key_id()) for _ in range(50)}

    assert len(made) == 50
    for key, key_id in made:
        assert re.fullmatch(r"sk-wy-[A-Za-z0-9_-]{43}", key)
        assert re.fullmatch(r"key_[0-9a-f]{24}", key_id)


def test_the_hash_of_a_key_depends_on_the_secret() -> None:
    plain = plain_hash("abc")

    assert plain == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len({plain, keyed_hash(b"one", plain), keyed_hash(b"two", plain)}) == 3
    assert keyed_hash(b"one", plain) == keyed_hash(b"one", plain)


def test_of_a_long_key_the_ends_are_shown() -> None:
    assert redacted("wy-0123456789012345678901234567end") == "wy-012…7end"
