from dataclasses import asdict
from pathlib import Path

from sqlalchemy import insert

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
from app.adapters.db.tables import api_keys
from app.domain.api_key import ApiKey
from tests.unit.services.pipeline_house import NOW


def test_each_plain_hash_is_replaced_once_by_its_own_keyed_hash(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    migrate(engine)
    store = SqlKeyStore(engine)
    keys = [ApiKey(f"key_{number}", "tenant", "ci", "sk-wy-…abcd", NOW) for number in range(3)]
    store.add(keys[0], "keyed before")
    with engine.begin() as connection:
        for key in keys[1:]:
            connection.execute(insert(api_keys).values(**asdict(key), key_hash=f"plain {key.id}", is_keyed=False))

    counts = [store.key_hashes(lambda plain: f"keyed {plain}") for _ in range(2)]
    found = [store.find(name) for name in ("keyed before", "keyed plain key_1", "keyed plain key_2")]
    engine.dispose()

    assert counts == [2, 0]
    assert found == keys
