"""Each store of API keys keeps these promises."""

from dataclasses import replace

from app.domain.api_key import ApiKey
from tests.contracts.conftest import NOW, Stores

KEY = ApiKey("key_1", "tenant", "ci", "sk-wy-…abcd", NOW)


def test_a_key_is_found_by_its_hash_as_it_was_stored(stores: Stores) -> None:
    stores.keys.add(KEY, "hash")

    assert stores.keys.find("hash") == KEY
    assert stores.keys.find("unknown") is None


def test_a_key_belongs_to_the_tenant_that_had_it_first(stores: Stores) -> None:
    stores.keys.add(KEY, "hash")

    stores.keys.add(replace(KEY, id="key_2", tenant_id="other"), "hash")

    assert stores.keys.find("hash") == KEY
    assert stores.keys.all() == [KEY]


def test_a_revoked_key_says_when_and_is_revoked_once(stores: Stores) -> None:
    stores.keys.add(KEY, "hash")

    assert stores.keys.revoke("key_1", NOW + 1) is True
    assert stores.keys.revoke("key_1", NOW + 2) is False
    assert stores.keys.revoke("key_9", NOW) is False
    assert stores.keys.find("hash") == replace(KEY, revoked_at=NOW + 1)


def test_a_revoked_key_is_not_made_good_by_adding_it_again(stores: Stores) -> None:
    stores.keys.add(KEY, "hash")
    stores.keys.revoke("key_1", NOW + 1)

    stores.keys.add(replace(KEY, id="key_2"), "hash")

    found = stores.keys.find("hash")
    assert found is not None
    assert found.revoked_at == NOW + 1


def test_the_last_use_of_several_keys_is_stored_and_never_goes_back(stores: Stores) -> None:
    stores.keys.add(KEY, "hash")
    stores.keys.add(replace(KEY, id="key_2", created_at=NOW + 1), "other")

    stores.keys.note_uses({"key_1": NOW + 5, "key_2": NOW + 6, "key_9": NOW})
    stores.keys.note_uses({"key_1": NOW + 4})

    assert [key.last_used_at for key in stores.keys.all()] == [NOW + 5, NOW + 6]
