import pytest

from app.cli.up.options import shared_settings
from app.config import load_settings


@pytest.mark.parametrize("query", ["", "?api-version=2024-10-21", "?a=%20b&c=d"])
def test_other_commands_look_at_the_same_upstream_with_its_query(query: str) -> None:
    settings = load_settings({"WYLON_CONFIG": "", "WYLON_UPSTREAM_URL": f"http://gpu:8000/v1{query}"})

    again = load_settings(shared_settings(settings))

    assert (again.upstreams[0].urls, again.upstreams[0].query) == (("http://gpu:8000/v1",), query.removeprefix("?"))
