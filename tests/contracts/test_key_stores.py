"""What every store of API keys and of idempotency keys promises."""

from tests.contracts.conftest import NOW, Stores


def test_a_key_belongs_to_the_tenant_that_had_it_first(stores: Stores) -> None:
    assert stores.keys.is_empty() is True

    stores.keys.add("hash", "tenant", NOW)
    stores.keys.add("hash", "other", NOW + 1)

    assert stores.keys.tenant_of("hash") == "tenant"
    assert stores.keys.tenant_of("unknown") is None
    assert stores.keys.is_empty() is False


def test_the_first_claim_of_a_key_stands(stores: Stores) -> None:
    first = stores.idempotency.claim("tenant", "key", "print-1", "batch_1", NOW)
    again = stores.idempotency.claim("tenant", "key", "print-2", "batch_2", NOW + 1)

    assert first == again == ("print-1", "batch_1")


def test_tenants_do_not_share_idempotency_keys(stores: Stores) -> None:
    stores.idempotency.claim("tenant", "key", "print-1", "batch_1", NOW)

    assert stores.idempotency.claim("other", "key", "print-2", "batch_2", NOW) == ("print-2", "batch_2")


def test_a_released_claim_is_forgotten(stores: Stores) -> None:
    stores.idempotency.claim("tenant", "key", "print-1", "batch_1", NOW)

    stores.idempotency.release("tenant", "key")

    assert stores.idempotency.claim("tenant", "key", "print-2", "batch_2", NOW) == ("print-2", "batch_2")


def test_old_claims_are_cleared(stores: Stores) -> None:
    stores.idempotency.claim("tenant", "old", "print", "batch_1", NOW)
    stores.idempotency.claim("tenant", "new", "print", "batch_2", NOW + 10)

    assert stores.idempotency.clear(NOW + 10) == 1
    assert stores.idempotency.claim("tenant", "old", "other", "batch_3", NOW) == ("other", "batch_3")
    assert stores.idempotency.claim("tenant", "new", "other", "batch_3", NOW) == ("print", "batch_2")
