import pytest

from app.domain.errors import NotAuthorized
from app.services.keys import KeyService
from tests.fakes.keys import MemoryKeyStore
from tests.fakes.outside import FakeClock


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
def keys(store: MemoryKeyStore) -> KeyService:
    return KeyService(store, FakeClock())


def test_a_key_that_was_ensured_is_let_in(keys: KeyService) -> None:
    keys.ensure("wy-key")
    keys.ensure("wy-key")

    assert keys.tenant_of("wy-key") == "default"


@pytest.mark.parametrize("key", [None, "", "wy-kez", "WY-KEY", "wy-key "])
def test_any_other_key_is_refused(keys: KeyService, key: str | None) -> None:
    keys.ensure("wy-key")

    with pytest.raises(NotAuthorized) as refused:
        keys.tenant_of(key)

    assert refused.value.code == "invalid_api_key"


def test_the_key_itself_is_not_stored(keys: KeyService, store: MemoryKeyStore) -> None:
    keys.ensure("wy-key")

    assert store.tenant_of("wy-key") is None
    assert not store.is_empty()
