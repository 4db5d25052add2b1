"""API keys and the secret of their hashes."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.adapters.secret_file import make_secret, read_secret
from app.config import Settings
from app.domain.api_key import keyed_hash
from app.domain.errors import SettingInvalid
from app.services.keys import KeyService
from app.wiring.stores import Stores, open_stores


def build_keys(settings: Settings, stores: Stores, *, on_use: Callable[[str], None] = lambda _: None) -> KeyService:
    """Build the service of API keys; SettingInvalid if the secret is missing or belongs to another deployment."""
    return KeyService(stores.keys, stores.clock, _secret_of(settings, stores), on_use=on_use)


@contextmanager
def open_keys(settings: Settings) -> Iterator[KeyService]:
    """Open the database for the service of API keys."""
    stores = open_stores(settings)
    try:
        yield build_keys(settings, stores)
    finally:
        stores.engine.dispose()


def settle_secret(settings: Settings) -> None:
    """Make the secret if the database has none yet, and replace the hashes stored by 0.1 with keyed hashes."""
    stores = open_stores(settings)
    try:
        if stores.deployment.secret_check() is None:
            make_secret(settings.secret_file)
            secret = _read(settings)
            if secret is None or not stores.deployment.claim_secret(_check_of(secret, stores)):
                raise _wrong(settings, "is not the secret of this database's API keys")
        secret = _secret_of(settings, stores)
        stores.keys.key_hashes(lambda plain: keyed_hash(secret, plain))
    finally:
        stores.engine.dispose()


def _secret_of(settings: Settings, stores: Stores) -> bytes:
    secret, check = _read(settings), stores.deployment.secret_check()
    if check is None:
        raise SettingInvalid("This database has no secret for its API keys yet: run `wylon migrate`.")
    if secret is None:
        raise _wrong(settings, "is missing, and has the secret of this database's API keys")
    if not hmac.compare_digest(_check_of(secret, stores), check):
        raise _wrong(settings, "is not the secret of this database's API keys")
    return secret


def _read(settings: Settings) -> bytes | None:
    try:
        return read_secret(settings.secret_file)
    except OSError as fault:
        raise _wrong(settings, f"can't be read ({fault.strerror or fault})") from None
    except ValueError as fault:
        raise _wrong(settings, f"holds no secret ({fault})") from None


def _check_of(secret: bytes, stores: Stores) -> str:
    return hmac.new(secret, f"deployment {stores.deployment.id}".encode(), hashlib.sha256).hexdigest()


def _wrong(settings: Settings, fault: str) -> SettingInvalid:
    return SettingInvalid(
        f"WYLON_SECRET_FILE: {settings.secret_file} {fault}: put the file back from the backup of this deployment,"
        " or name where it is."
    )
