"""Each store of API keys keeps these promises."""

from dataclasses import asdict, replace

from sqlalchemy import insert

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
from app.adapters.db.tables import api_keys
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


def test_revoking_a_key_leaves_the_keys_beside_it(stores: Stores) -> None:
    other = replace(KEY, id="key_2")
    stores.keys.add(KEY, "hash")
    stores.keys.add(other, "other")

    assert stores.keys.revoke("key_1", NOW + 1) is True

    assert stores.keys.find("other") == other


def test_keys_are_listed_by_when_they_were_made(stores: Stores) -> None:
    for number in (2, 3, 1):
        stores.keys.add(replace(KEY, id=f"key_{number}", created_at=NOW + number), f"hash-{number}")

    assert [key.id for key in stores.keys.all()] == ["key_1", "key_2", "key_3"]


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


def test_a_hash_that_another_process_has_keyed_meanwhile_is_not_keyed_twice(postgres_url: str) -> None:
    engine = open_engine(postgres_url)
    migrate(engine)
    store = SqlKeyStore(engine)
    with engine.begin() as connection:
        connection.execute(insert(api_keys).values(**asdict(KEY), key_hash="plain", is_keyed=False))

    def keyed_after_another(plain: str) -> str:
        store.key_hashes(lambda same: f"keyed {same}")
        return f"keyed twice {plain}"

    store.key_hashes(keyed_after_another)
    found = store.find("keyed plain")
    engine.dispose()

    assert found == KEY
