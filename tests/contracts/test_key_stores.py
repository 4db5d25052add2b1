"""Each store of idempotency keys keeps these promises."""

import pytest

from app.domain.errors import KeyTaken
from app.services.ports import Claim, Known
from tests.contracts.conftest import NOW, Stores


def test_a_key_is_stored_with_its_object(stores: Stores) -> None:
    stores.add_file("file-1", Claim("of a file", "print-1"))
    stores.add_batch("batch_1", claim=Claim("of a batch", "print-2"))

    assert stores.idempotency.get("tenant", "of a file") == Known("print-1", "file-1")
    assert stores.idempotency.get("tenant", "of a batch") == Known("print-2", "batch_1")
    assert stores.idempotency.get("tenant", "unknown") is None


def test_an_object_whose_key_is_taken_is_not_stored(stores: Stores) -> None:
    stores.add_file("file-1", Claim("key", "print"))

    with pytest.raises(KeyTaken):
        stores.add_file("file-2", Claim("key", "print"))
    with pytest.raises(KeyTaken):
        stores.add_batch("batch_2", claim=Claim("key", "print"))

    assert stores.files.get("tenant", "file-2", NOW) is None
    assert stores.batches.find("batch_2") is None
    assert stores.idempotency.get("tenant", "key") == Known("print", "file-1")


def test_tenants_do_not_share_idempotency_keys(stores: Stores) -> None:
    stores.add_file("file-1", Claim("key", "print-1"))
    stores.add_file("file-2", Claim("key", "print-2"), tenant_id="other")

    assert stores.idempotency.get("other", "key") == Known("print-2", "file-2")


def test_old_keys_are_cleared(stores: Stores) -> None:
    stores.add_file("file-1", Claim("old", "print"))
    stores.add_file("file-2", Claim("new", "print"), created_at=NOW + 10)

    assert stores.idempotency.clear(NOW + 10) == 1
    assert stores.idempotency.get("tenant", "old") is None
    assert stores.idempotency.get("tenant", "new") == Known("print", "file-2")
