import contextlib
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.config import load_settings, unknown_variables
from app.domain.errors import SettingInvalid


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("STORAGE_URL", "file://relative", "absolute path"),
        ("STORAGE_URL", "file://relative/blobs", "absolute path"),
        ("STORAGE_URL", "file://", "absolute path"),
        ("STORAGE_URL", "file:blobs", "absolute path"),
        ("DATABASE_URL", "sqlite://", "path of a file"),
        ("DATABASE_URL", "sqlite:///", "path of a file"),
        ("DATABASE_URL", "sqlite:///:memory:", "path of a file"),
        ("DATABASE_URL", "sqlite://here.db", "path of a file"),
        ("DATABASE_URL", "sqlite+aiosqlite:///here.db", "path of a file"),
        ("DATABASE_URL", "sqlite:////no/such/folder/wylon.db", "no folder /no/such/folder"),
        ("DATABASE_URL", "sqlite:////tmp", "is a folder"),
        ("DATABASE_URL", "postgresql:", "can't be read"),
        ("DATABASE_URL", "mysql://host/name", "known kind"),
        ("DATABASE_URL", "postgresql://user@host/name?foo=1", "'postgresql://…@host/name' has the parameter 'foo'"),
        ("DATABASE_URL", "postgresql://one,two/name?sslmod=require", "the parameter 'sslmod'"),
        ("DATABASE_URL", "postgresql://host/name?row_factory=x", "the parameter 'row_factory'"),
        ("BROKER_URL", "redis://host:port/0", "host or port"),
        ("BROKER_URL", "redis://[::1/0", "host or port"),
        ("BROKER_URL", "rediss://host?ssl_ca_certs=/no/such.pem", "/no/such.pem can't be read: No such file"),
        ("BROKER_URL", f"rediss://host?ssl_ca_certs={__file__}", "test_config.py can't be read"),
        ("BROKER_URL", "rediss://host?ssl_ca_path=/no/such", "no folder /no/such"),
        ("BROKER_URL", "rediss://host?ssl_certfile=/no/such.pem", "ssl_certfile=/no/such.pem and its key"),
        ("BROKER_URL", "rediss://host?ssl_keyfile=/no/such.pem", "add ssl_certfile"),
        ("BROKER_URL", "sentinel://host?master_name=mine&ssl_ca_certs=/no/such.pem", "can't be read"),
        ("API_KEY", "kéy", "no header can carry"),
        ("API_KEY", "two\nlines", "no header can carry"),
        ("API_KEY", "key ", "no header keeps"),
        ("CALL_TIMEOUT_S", "nan", "not between"),
        ("CALL_TIMEOUT_S", "inf", "not between"),
        ("CALL_TIMEOUT_S", "soon", "no number of seconds"),
        ("DATA", "~no-such-user/data", "not known"),
        ("PREFIX_GROUPING", "yes", "neither on nor off"),
        ("TENANT_WEIGHTS", "acme", "TENANT=WEIGHT"),
        ("TENANT_WEIGHTS", "acme=0", "TENANT=WEIGHT"),
        ("TENANT_WEIGHTS", "acme=nan", "TENANT=WEIGHT"),
        ("DEADLINE_WEIGHT", "much", "no number"),
        ("DEADLINE_WEIGHT", "11", "not between"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_variable(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingInvalid, match=reason) as refused:
        load_settings({f"WYLON_{name}": value})

    assert str(refused.value).startswith(f"WYLON_{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://wylon:hush@host:port/name"),
        ("DATABASE_URL", "mysql://wylon:hush@host/name"),
        ("DATABASE_URL", "mysql://host/name?password=hush"),
        ("DATABASE_URL", "postgresql://wylon:pass@hush@host/name"),
        ("DATABASE_URL", "postgresql://wylon:pass@#hush@host:1/name"),
        ("DATABASE_URL", "postgresql://wylon:pass@hush/hush@host/name"),
        ("DATABASE_URL", "postgresql://wylon:pass?hush=1@host/name"),
        ("DATABASE_URL", "postgresql://host:5432/name?password=pass@hush"),
        ("BROKER_URL", "wylon:hush@host"),
        ("BROKER_URL", "redis://:hush@host:port/0"),
        ("BROKER_URL", "redis://:pass@x/hush@host/0"),
        ("BROKER_URL", "redis://:123/hush@host/0"),
        ("BROKER_URL", "redis://:pass@x?hush=1@host/0"),
        ("UPSTREAM_URL", "http://wylon:hush?x@host/v1"),
    ],
)
def test_a_refusal_shows_no_password(name: str, value: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        load_settings({f"WYLON_{name}": value})

    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL"])
@pytest.mark.parametrize("password", ["pa@/ss", "pa/@ss", "pa?@ss"])
def test_a_character_that_ends_a_password_is_refused_with_its_escape(name: str, password: str) -> None:
    scheme = "redis" if name == "BROKER_URL" else "postgresql"
    with pytest.raises(SettingInvalid, match="is written %40, %2F"):
        load_settings({f"WYLON_{name}": f"{scheme}://user:{password}@host/0"})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user%40server:p%40ss%2F%3F%23:@host:5432/name?prepare_threshold=5",
        "postgresql:///name?host=%2Ftmp&user=a%40b&sslmode=require",
    ],
)
def test_an_address_of_a_database_with_escapes_is_kept_as_it_is(url: str) -> None:
    assert make_url(load_settings({"WYLON_DATABASE_URL": url}).database_url) == make_url(url)


@pytest.mark.parametrize("url", ["file:///mnt/a#b?c/blobs", "file://localhost/mnt/a#b?c/blobs"])
def test_files_are_kept_in_the_folder_that_the_address_names(url: str) -> None:
    settings = load_settings({"WYLON_STORAGE_URL": url})

    assert str(settings.storage_folder) == "/mnt/a#b?c/blobs"


def test_a_database_in_the_data_folder_needs_no_folder_before_the_start() -> None:
    environ = {"WYLON_DATA": "/no/such/folder", "WYLON_DATABASE_URL": "sqlite:////no/such/folder/own.db"}

    assert load_settings(environ).database_url == environ["WYLON_DATABASE_URL"]


def test_an_unknown_variable_is_warned_of_with_the_nearest_known_one() -> None:
    environ = {"WYLON_WORKER": "4", "WYLON_BASE_URL": "http://host/v1", "WYLON_MAX_TRIES": "3", "HOME": "/root"}

    (warning,) = unknown_variables(environ)

    assert "WYLON_WORKER is" in warning
    assert "did you mean WYLON_WORKERS?" in warning


def test_weights_are_read_by_tenant() -> None:
    settings = load_settings({"WYLON_TENANT_WEIGHTS": "acme=3, other=0.5,", "WYLON_DEADLINE_WEIGHT": "0"})

    assert settings.tenant_weights == {"acme": 3.0, "other": 0.5}
    assert settings.deadline_weight == 0.0


@pytest.mark.parametrize("name", ["DATA", "SECRET_FILE", "DATABASE_URL", "STORAGE_URL", "API_KEY", "HOST", "CONFIG"])
def test_a_value_that_is_not_utf_8_is_refused_and_not_shown(name: str) -> None:
    value = f"{'sqlite:////' if name == 'DATABASE_URL' else ''}hush-\udcff"

    with pytest.raises(SettingInvalid, match=f"WYLON_{name}: the value is not in UTF-8") as refused:
        load_settings({f"WYLON_{name}": value})

    assert "hush" not in str(refused.value)


def test_a_current_folder_that_is_not_utf_8_is_refused_as_the_place_of_the_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()

    with contextlib.chdir(folder), pytest.raises(SettingInvalid, match=r"WYLON_DATA: .*is not in UTF-8"):
        load_settings({})


@pytest.mark.parametrize("name", ["DATA", "SECRET_FILE", "DATABASE_URL", "CONFIG"])
@pytest.mark.parametrize("path", ["/" + 256 * "x", "/" + 2_500 * "x/"], ids=["component", "path"])
def test_a_path_that_is_too_long_is_refused(name: str, path: str) -> None:
    value = f"sqlite:///{path}/db" if name == "DATABASE_URL" else path

    with pytest.raises(SettingInvalid, match=f"WYLON_{name}: .*File name too long"):
        load_settings({f"WYLON_{name}": value})


@pytest.mark.parametrize("below", ["", "below"])
@pytest.mark.parametrize(("target", "reason"), [("away", "a link to away"), ("link", "symbolic links")])
def test_a_data_folder_behind_a_link_that_leads_nowhere_is_refused(
    tmp_path: Path, below: str, target: str, reason: str
) -> None:
    (tmp_path / "link").symlink_to(target)

    with pytest.raises(SettingInvalid, match=f"WYLON_DATA: .*{reason}"):
        load_settings({"WYLON_DATA": str(tmp_path / "link" / below)})


def test_an_empty_data_folder_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="WYLON_DATA: it is empty"):
        load_settings({"WYLON_DATA": ""})


@pytest.mark.parametrize("unfit", [" ", "\t", "\n", "\u00a0", "\u200b"])
@pytest.mark.parametrize("place", ["http://host/v1{}", "http://ho{}st/v1", "http://host/{}v1"])
def test_the_url_of_a_model_server_has_no_space_and_no_hidden_character(unfit: str, place: str) -> None:
    with pytest.raises(SettingInvalid, match=r"WYLON_UPSTREAM_URL: .* has a space or a character that is not shown"):
        load_settings({"WYLON_UPSTREAM_URL": place.format(unfit), "WYLON_CONFIG": ""})
