from pathlib import Path

import pytest
from sqlalchemy import insert

from app.adapters.db.engine import open_engine, writing
from app.adapters.db.migrate import migrate
from app.adapters.db.tables import api_keys
from app.config import Settings, load_settings
from app.domain.api_key import plain_hash
from app.domain.errors import SettingInvalid
from app.wiring.keys import open_keys
from app.wiring.setup import prepare


def settings_of(folder: Path, **more: str) -> Settings:
    return load_settings({"WYLON_DATA": str(folder), **more})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path / "data")
    prepare(settings)
    return settings


def test_the_first_start_makes_a_secret_for_its_owner_alone(settings: Settings) -> None:
    assert settings.secret_file.stat().st_mode & 0o777 == 0o600
    assert list(settings.data.glob(".secret*")) == []


def test_a_key_holds_through_the_starts_that_follow(settings: Settings) -> None:
    with open_keys(settings) as keys:
        _, value = keys.add("ci")

    prepare(settings)

    with open_keys(settings) as keys:
        assert keys.identify(value).tenant_id == "default"


def test_without_its_secret_a_start_on_known_data_ends_with_the_file_and_the_cure(settings: Settings) -> None:
    settings.secret_file.unlink()

    with pytest.raises(SettingInvalid, match=r"WYLON_SECRET_FILE: .*/secret is missing.*backup"):
        prepare(settings)
    with pytest.raises(SettingInvalid, match="is missing"), open_keys(settings):
        pass
    assert not settings.secret_file.exists()


def test_the_secret_of_another_deployment_is_refused(settings: Settings, tmp_path: Path) -> None:
    other = settings_of(tmp_path / "other")
    prepare(other)

    with pytest.raises(SettingInvalid, match="is not the secret of this database"):
        prepare(settings_of(settings.data, WYLON_SECRET_FILE=str(other.secret_file)))


@pytest.mark.parametrize("content", ["", "ab", "no hex", "ä"])
def test_a_secret_that_was_cut_is_told_and_left_as_it_is(settings: Settings, content: str) -> None:
    settings.secret_file.write_text(content)

    with pytest.raises(SettingInvalid, match="holds no secret"):
        prepare(settings)

    assert settings.secret_file.read_text() == content


def test_a_key_of_before_the_secret_stays_valid_and_its_plain_hash_is_gone(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    engine = open_engine(settings.database_url)
    migrate(engine)
    plain = plain_hash("wy-before")
    row = {"id": "key_1", "tenant_id": "default", "name": "from 0.1", "redacted_value": "…", "created_at": 0.0}
    with writing(engine) as connection:
        connection.execute(insert(api_keys).values(row | {"key_hash": plain, "is_keyed": False}))
    engine.dispose()

    prepare(settings)

    with open_keys(settings) as keys:
        assert keys.identify("wy-before").tenant_id == "default"
    assert plain.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("wylon.db"))
