from pathlib import Path

import pytest

from app.cli.up.options import secret_variables, shared_settings
from app.config import load_settings


@pytest.mark.parametrize("query", ["", "?api-version=2024-10-21", "?a=%20b&c=d"])
def test_other_commands_look_at_the_same_upstream_with_its_query(query: str) -> None:
    settings = load_settings({"WYLON_CONFIG": "", "WYLON_UPSTREAM_URL": f"http://gpu:8000/v1{query}"})

    again = load_settings(shared_settings(settings))

    assert (again.upstreams[0].urls, again.upstreams[0].query) == (("http://gpu:8000/v1",), query.removeprefix("?"))


def test_other_commands_look_at_the_same_storage(tmp_path: Path) -> None:
    settings = load_settings({"WYLON_CONFIG": "", "WYLON_STORAGE_URL": f"file://{tmp_path}/blobs"})

    again = load_settings(shared_settings(settings))

    assert again.storage_folder == tmp_path / "blobs"


def test_variables_with_a_password_or_a_key_are_told_by_name_alone() -> None:
    environ = {
        "WYLON_UPSTREAM_API_KEY": "sk-hush",
        "WYLON_DATABASE_URL": "postgresql://wylon:hush@db/wylon",
        "WYLON_BROKER_URL": "",
        "WYLON_PORT": "1",
    }

    assert secret_variables(environ) == ["WYLON_DATABASE_URL", "WYLON_UPSTREAM_API_KEY"]
