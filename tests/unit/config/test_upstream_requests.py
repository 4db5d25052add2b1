from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import Settings, load_settings
from app.domain.errors import SettingInvalid
from app.domain.upstream import TimeLimit, TimeLimits

SECRET = "hush-hush"
SMALL = '[upstreams.gpu]\nurls = ["http://gpu/v1"]\n'
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return what reads settings with a file of this text."""

    def load(text: str, **environ: str) -> Settings:
        path = tmp_path / "wylon.toml"
        path.write_text(text)
        return load_settings({"WYLON_CONFIG": str(path), "GPU_KEY": SECRET, **environ})

    return load


def test_an_upstream_may_have_a_query_headers_and_members_of_the_body(load: Load) -> None:
    text = """
query = { api-version = "2024-10-21", user = "a b&c", sig = { env = "GPU_KEY" }, n = 3 }
headers = { X-Team = "batch", api-key = { env = "GPU_KEY" } }
body = { priority = 10, chat_template_kwargs = { thinking = false }, stop = ["é"] }
"""

    (gpu,) = load(SMALL + text).upstreams

    assert gpu.query == f"api-version=2024-10-21&user=a%20b%26c&sig={SECRET}&n=3"
    assert gpu.headers == (("x-team", "batch"), ("api-key", SECRET))
    assert gpu.body == (
        ("priority", b"10"),
        ("chat_template_kwargs", b'{"thinking":false}'),
        ("stop", '["é"]'.encode()),
    )
    assert gpu.secrets == (SECRET, SECRET)


def test_no_secret_is_in_what_python_shows_of_settings(load: Load) -> None:
    text = 'headers = { api-key = { env = "GPU_KEY" } }\nquery = { sig = { env = "GPU_KEY" } }'

    assert SECRET not in repr(load(SMALL + text))


def test_the_url_of_the_environment_may_have_a_query() -> None:
    (upstream,) = load_settings(
        {"WYLON_CONFIG": "", "WYLON_UPSTREAM_URL": f"http://host/v1/?api-version=2024-10-21&sig={SECRET}"}
    ).upstreams

    assert upstream.urls == ("http://host/v1",)
    assert upstream.query == f"api-version=2024-10-21&sig={SECRET}"
    assert SECRET not in repr(upstream)


@pytest.mark.parametrize("query", ["a=b c", "a=é", "a=\r\nx: y"])
def test_a_query_is_quoted_so_that_a_request_can_carry_it(query: str) -> None:
    (upstream,) = load_settings({"WYLON_CONFIG": "", "WYLON_UPSTREAM_URL": f"http://host/v1?{query}"}).upstreams

    assert upstream.query.isascii()
    assert upstream.query.isprintable()
    assert " " not in upstream.query


def test_times_may_be_set_by_model_and_say_where(load: Load) -> None:
    text = """
call_timeout_s = 100
[upstreams.gpu.limits."r1-*"]
first_byte_timeout_s = 7200
call_timeout_s = 9000
[upstreams.gpu.limits."small"]
call_timeout_s = 5
"""

    (gpu,) = load(SMALL + text).upstreams

    first_byte = TimeLimit(3_600.0, "WYLON_FIRST_BYTE_TIMEOUT_S")
    assert gpu.time_limits == TimeLimits(first_byte, TimeLimit(100.0, "call_timeout_s in [upstreams.gpu]"))
    place = '[upstreams.gpu.limits."{}"]'
    assert gpu.model_limits == (
        (
            "r1-*",
            TimeLimits(
                TimeLimit(7_200.0, f"first_byte_timeout_s in {place.format('r1-*')}"),
                TimeLimit(9_000.0, f"call_timeout_s in {place.format('r1-*')}"),
            ),
        ),
        ("small", TimeLimits(first_byte, TimeLimit(5.0, f"call_timeout_s in {place.format('small')}"))),
    )
    assert gpu.longest_call_s == 9_000.0


@pytest.mark.parametrize(
    ("line", "key", "reason"),
    [
        ("query = 'a=b'", "query", "must be a table"),
        ("query = { a = [1] }", "query", "a must be a text"),
        ("query = { '' = 'x' }", "query", "a name is empty"),
        ("headers = ['a: b']", "headers", "must be a table"),
        ("headers = { host = 'x' }", "headers", "host is set by wylon itself"),
        ("headers = { Content-Length = '3' }", "headers", "Content-Length is set by wylon itself"),
        ("headers = { Transfer-Encoding = 'chunked' }", "headers", "is set by wylon itself"),
        ("headers = { 'a b' = 'x' }", "headers", "'a b' is no name of a header"),
        ('headers = { a = "x\\ny" }', "headers", "can't be printed"),
        ("headers = { a = 'é' }", "headers", "the value of a can't be used"),
        ("headers = { a = 'x', A = 'y' }", "headers", "A is there twice"),
        ("headers = { a = true }", "headers", "a must be a text"),
        ("headers = { a = { file = 'x' } }", "headers", "a must be a text"),
        ("headers = { a = { env = 'hush-hush' } }", "headers", "a name in capitals"),
        ("headers = { a = { env = 'NO_KEY' } }", "headers", "no environment variable NO_KEY"),
        ("headers = { a = { env = 'WYLON_API_KEY' } }", "headers", "are those of settings"),
        ("headers = { a = { env = 'BAD_KEY' } }", "headers", "the value of a can't be used"),
        ("headers = { api-key = 'hush-hush' }", "headers", "looks like a secret"),
        ("headers = { Authorization = 'Bearer hush-hush' }", "headers", "looks like a secret"),
        ("query = { subscription-key = 'hush-hush' }", "query", "looks like a secret"),
        ("api_key_env = 'GPU_KEY'\nheaders = { authorization = { env = 'GPU_KEY' } }", "headers", "one of the two"),
        ("body = { stream = true }", "body", "stream can't be set"),
        ("body = { a = 2024-01-01 }", "body", "JSON does not have"),
        ("body = { a = [inf] }", "body", "JSON does not have"),
        (f"body = {{ a = '{'x' * 70_000}' }}", "body", "larger than 65,536"),
        ("limits = { 'a' = 3 }", "limits", "'a' must be a table"),
        ("params = { a = 'b' }", "params", "did you mean query?"),
    ],
)
def test_what_requests_cannot_have_is_named_without_its_secrets(
    load: Load, tmp_path: Path, line: str, key: str, reason: str
) -> None:
    with pytest.raises(SettingInvalid) as refused:
        load(SMALL + line, BAD_KEY="hush-hush é")

    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'wylon.toml'}: [upstreams.gpu] {key}: ")
    assert reason in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("line", "reason"),
    [("x = 1", "there is no such key"), ("call_timeout_s = 0", "is not between"), ("call_timeout_s = 'x'", "a number")],
)
def test_a_limit_of_a_model_that_cannot_be_used_is_named(load: Load, line: str, reason: str) -> None:
    with pytest.raises(SettingInvalid, match=r'\[upstreams\.gpu\.limits\."m"\]') as refused:
        load(f'{SMALL}[upstreams.gpu.limits."m"]\n{line}')

    assert reason in str(refused.value)


def test_a_url_of_the_file_has_its_query_in_a_key_of_its_own(load: Load) -> None:
    with pytest.raises(SettingInvalid, match="query = ") as refused:
        load(f'[upstreams.gpu]\nurls = ["http://gpu/v1?sig={SECRET}"]\n')

    assert SECRET not in str(refused.value)
