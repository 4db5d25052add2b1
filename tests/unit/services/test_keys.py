import pytest

from app.domain.errors import Conflict, InvalidRequest, NotAuthorized, NotFound
from app.services.keys import KeyService
from tests.fakes.keys import MemoryKeyStore
from tests.fakes.outside import FakeClock

SECRET = b"the secret of the hashes of keys"


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
def used() -> list[str]:
    return []


@pytest.fixture
def keys(store: MemoryKeyStore, used: list[str]) -> KeyService:
    return KeyService(store, FakeClock(), SECRET, on_use=used.append)


def test_a_key_that_was_ensured_is_let_in(keys: KeyService) -> None:
    assert keys.ensure("wy-key") is True
    assert keys.ensure("wy-key") is True

    assert keys.identify("wy-key").tenant_id == "default"
    assert len(keys.all()) == 1


@pytest.mark.parametrize("key", [None, "", "wy-kez", "WY-KEY", "wy-key "])
def test_any_other_key_is_refused(keys: KeyService, key: str | None) -> None:
    keys.ensure("wy-key")

    with pytest.raises(NotAuthorized) as refused:
        keys.identify(key)

    assert refused.value.code == "invalid_api_key"


def test_a_key_that_was_added_is_let_in_and_its_use_is_told(keys: KeyService, used: list[str]) -> None:
    key, value = keys.add("ci")

    assert keys.identify(value).tenant_id == "default"
    assert used == [key.id]
    assert (key.name, key.redacted_value) == ("ci", f"sk-wy-…{value[-4:]}")


@pytest.mark.parametrize("which", ["id", "name"])
def test_a_revoked_key_is_refused_like_an_unknown_one(keys: KeyService, which: str) -> None:
    key, value = keys.add("ci")

    keys.revoke(getattr(key, which))

    with pytest.raises(NotAuthorized) as refused:
        keys.identify(value)
    with pytest.raises(NotAuthorized) as unknown:
        keys.identify("sk-wy-unknown")
    assert refused.value.message == unknown.value.message


def test_a_start_does_not_let_a_revoked_key_in_again(keys: KeyService) -> None:
    keys.ensure("wy-key")
    keys.revoke("first")

    assert keys.ensure("wy-key") is False
    with pytest.raises(NotAuthorized):
        keys.identify("wy-key")


def test_a_name_is_free_again_once_its_key_was_revoked(keys: KeyService) -> None:
    keys.add("ci")
    with pytest.raises(Conflict, match="'ci'"):
        keys.add("ci")

    keys.revoke("ci")

    assert keys.add("ci")[0].name == "ci"


def test_of_several_keys_with_one_name_none_is_revoked_by_it(keys: KeyService) -> None:
    keys.ensure("wy-one")
    keys.ensure("wy-two")

    with pytest.raises(Conflict, match="2 keys"):
        keys.revoke("first")

    assert [key.revoked_at for key in keys.all()] == [None, None]


@pytest.mark.parametrize("which", ["id", "name"])
def test_revoking_one_key_leaves_all_others(keys: KeyService, which: str) -> None:
    first, first_value = keys.add("ci")
    second, _ = keys.add("laptop")

    assert keys.revoke(getattr(second, which)).id == second.id

    assert keys.identify(first_value).tenant_id == "default"
    with pytest.raises(NotFound):
        keys.revoke(second.name)
    assert [key.id for key in keys.all() if key.revoked_at is None] == [first.id]


def test_an_unknown_key_can_not_be_revoked(keys: KeyService) -> None:
    with pytest.raises(NotFound, match="nobody"):
        keys.revoke("nobody")


@pytest.mark.parametrize("name", ["", " ci", "ci\n", "\x1b[31m", "x" * 65])
def test_a_name_that_is_no_name_is_refused(keys: KeyService, name: str) -> None:
    with pytest.raises(InvalidRequest):
        keys.add(name)


def test_of_a_short_key_nothing_is_shown(keys: KeyService) -> None:
    keys.ensure("hunter2")

    assert keys.all()[0].redacted_value == "…"
