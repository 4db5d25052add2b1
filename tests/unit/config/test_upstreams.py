from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli.up.options import child_environ
from app.config import Settings, load_settings
from app.domain.errors import SettingInvalid

KEY = "sk-hush"
SMALL = '[upstreams.gpu]\nurls = ["http://gpu/v1"]\n'
FULL = """
[upstreams.gpu]
urls = ["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1/"]
models = ["llama-*", "mistral-7b"]
endpoints = ["/v1/chat/completions"]
api_key_env = "GPU_KEY"
max_in_flight = 512
requests_per_minute = 6000
tokens_per_minute = 2_000_000
adaptive = false
latency_target_s = 2.5
connect_timeout_s = 1
first_byte_timeout_s = 20
call_timeout_s = 30
max_tries = 3

[upstreams.cloud]
urls = ["https://cloud/v1"]
"""
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return what reads settings with a file of this text, whose path is `tmp_path / wylon.toml`."""

    def load(text: str, **environ: str) -> Settings:
        path = tmp_path / "wylon.toml"
        path.write_text(text)
        return load_settings({"WYLON_CONFIG": str(path), "GPU_KEY": KEY, **environ})

    return load


def test_an_upstream_is_what_the_file_says_and_the_environment_says_the_rest(load: Load) -> None:
    settings = load(FULL, WYLON_CALL_TIMEOUT_S="70", WYLON_MAX_TRIES="7")

    gpu, cloud = settings.upstreams
    assert (gpu.name, gpu.urls) == ("gpu", ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"))
    assert (gpu.models, gpu.endpoints) == (("llama-*", "mistral-7b"), ("/v1/chat/completions",))
    assert (gpu.api_key, gpu.api_key_variable) == (KEY, "GPU_KEY")
    assert (gpu.max_in_flight, gpu.requests_per_minute, gpu.tokens_per_minute) == (512, 6_000, 2_000_000)
    assert (gpu.is_adaptive, gpu.latency_target_s) == (False, 2.5)
    assert (gpu.connect_timeout_s, gpu.first_byte_timeout_s, gpu.call_timeout_s, gpu.max_tries) == (1, 20, 30, 3)
    assert (cloud.models, cloud.endpoints, cloud.api_key, cloud.is_adaptive) == (("*",), None, None, True)
    assert (cloud.max_in_flight, cloud.requests_per_minute, cloud.tokens_per_minute) == (None, None, None)
    assert (cloud.connect_timeout_s, cloud.first_byte_timeout_s, cloud.call_timeout_s) == (10, 3_600, 70)
    assert (cloud.max_tries, cloud.latency_target_s) == (7, None)


def test_without_a_file_there_is_one_upstream_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings(
        {
            "WYLON_UPSTREAM_URL": "http://host/v1/",
            "WYLON_UPSTREAM_API_KEY": KEY,
            "WYLON_MODELS": "a,b-*",
            "WYLON_CONNECT_TIMEOUT_S": "3",
        }
    )

    (only,) = settings.upstreams
    assert (only.name, only.urls, only.models) == ("default", ("http://host/v1",), ("a", "b-*"))
    assert (only.api_key, only.api_key_variable, only.connect_timeout_s) == (KEY, "WYLON_UPSTREAM_API_KEY", 3)
    assert settings.config is None
    assert settings.upstreams[0].urls[0] == "http://host/v1"


def test_a_file_in_the_current_folder_is_used_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wylon.toml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)

    settings = load_settings({})

    assert settings.config == tmp_path / "wylon.toml"
    assert [spec.name for spec in settings.upstreams] == ["gpu"]


def test_an_empty_path_means_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wylon.toml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)

    settings = load_settings({"WYLON_CONFIG": "", "WYLON_UPSTREAM_URL": "http://host/v1"})

    assert settings.config is None
    assert settings.upstreams[0].urls[0] == "http://host/v1"


@pytest.mark.parametrize("text", ["", "# Nothing yet.\n", "[upstreams]\n"])
def test_a_file_without_upstreams_leaves_them_to_the_environment(load: Load, text: str) -> None:
    settings = load(text, WYLON_UPSTREAM_URL="http://host/v1")

    assert [(spec.name, spec.urls) for spec in settings.upstreams] == [("default", ("http://host/v1",))]


@pytest.mark.parametrize("path", ["/no/such/wylon.toml", "no-such.toml"])
def test_a_path_that_is_given_has_to_be_there(path: str) -> None:
    with pytest.raises(SettingInvalid, match=r"^WYLON_CONFIG: there is no file /.*toml\.$"):
        load_settings({"WYLON_CONFIG": path})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[upstreams", "it is no TOML"),
        (SMALL.encode() * 2, "it is no TOML"),
        (b"\xff", "no text in UTF-8"),
        (b"#" * 2_000_000, "larger than 1,048,576 bytes"),
        (b"a = " + b"[" * 100_000, "it is no TOML"),
        (b"a = " + b"9" * 5_000, "it is no TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "wylon.toml"
    path.write_bytes(data)

    with pytest.raises(SettingInvalid, match=reason) as refused:
        load_settings({"WYLON_CONFIG": str(path)})

    assert str(refused.value).startswith(f"{path}: ")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=r"can't be read: Is a directory"):
        load_settings({"WYLON_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    ("line", "key", "reason"),
    [
        ("model = ['a']", "model", "did you mean models?"),
        ("max_inflight = 3", "max_inflight", "did you mean max_in_flight?"),
        ("lunch = 3", "lunch", "no such key: there are urls, models"),
        ("url = 'http://gpu/v1'", "url", "did you mean urls, a list?"),
        (f"api_key = '{KEY}'", "api_key", "the file holds no keys"),
        (f"api_key_env = '{KEY}'", "api_key_env", "the name of an environment variable, in capitals"),
        ("api_key_env = 3", "api_key_env", "a text in quotes"),
        ("api_key_env = 'NO_SUCH_KEY'", "api_key_env", "no environment variable NO_SUCH_KEY"),
        ("api_key_env = 'EMPTY_KEY'", "api_key_env", "or it is empty"),
        ("api_key_env = 'BAD_KEY'", "api_key_env", "the key in BAD_KEY can't be used: it has characters"),
        ("api_key_env = 'WYLON_GPU_KEY'", "api_key_env", "another name"),
        ("models = 'a'", "models", "a list of texts"),
        ("models = [1]", "models", "a list of texts"),
        ("models = []", "models", "0 entries: give from 1 to 1,000"),
        ("models = ['']", "models", "an entry is empty"),
        ("models = [' a']", "models", "spaces around it"),
        ('models = ["a\\u0000"]', "models", "spaces around it"),
        (f"models = ['{'a' * 600}']", "models", "longer than 512"),
        ("models = ['a', 'a']", "models", "there twice"),
        ("endpoints = ['/v1/chat/completion']", "endpoints", "did you mean /v1/chat/completions?"),
        ("endpoints = ['lunch']", "endpoints", "there are /v1/chat/completions, "),
        ("endpoints = []", "endpoints", "0 entries"),
        ("max_in_flight = 0", "max_in_flight", "0 is not between 1 and 1,000,000"),
        ("max_in_flight = 1.5", "max_in_flight", "a whole number"),
        ("max_in_flight = true", "max_in_flight", "a whole number"),
        ("max_in_flight = '3'", "max_in_flight", "a whole number"),
        (f"max_in_flight = {'9' * 4_000}", "max_in_flight", "the number is not between"),
        ("requests_per_minute = 0", "requests_per_minute", "not between"),
        ("tokens_per_minute = -1", "tokens_per_minute", "-1 is not between"),
        ("adaptive = 'on'", "adaptive", "true or false"),
        ("adaptive = 1", "adaptive", "true or false"),
        ("latency_target_s = 0", "latency_target_s", "0 is not between 0.001 and 86,400 seconds"),
        ("latency_target_s = nan", "latency_target_s", "nan is not between"),
        ("latency_target_s = true", "latency_target_s", "a number of seconds"),
        ("connect_timeout_s = inf", "connect_timeout_s", "not between"),
        ("first_byte_timeout_s = '1'", "first_byte_timeout_s", "a number of seconds"),
        ("call_timeout_s = 1e9", "call_timeout_s", "not between"),
        ("max_tries = 101", "max_tries", "not between 1 and 100"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_its_table_and_file(
    load: Load, tmp_path: Path, line: str, key: str, reason: str
) -> None:
    with pytest.raises(SettingInvalid) as refused:
        load(SMALL + line, EMPTY_KEY="", BAD_KEY="kéy")

    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'wylon.toml'}: [upstreams.gpu] {key}: ")
    assert reason in message
    assert KEY not in message
    assert "kéy" not in message


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ("'http://gpu/v1'", "a list of texts"),
        ("[]", "0 entries: give from 1 to 64"),
        ("['ftp://gpu/v1']", "no address of a known kind"),
        ("['http:///v1']", "must be like http://HOST:PORT/v1"),
        ("['http://user:hush@gpu/v1']", "a key goes to the variable of api_key_env"),
        ("['http://gpu:port/v1']", "must be like"),
        ("['http://gpu/v1?key=hush']", "into query"),
        ("['http://gpu/v1', 'http://gpu/v1/']", "there twice"),
        (str([f"http://gpu{number}/v1" for number in range(65)]), "65 entries"),
    ],
)
def test_a_url_has_to_pass_the_checks_of_the_one_in_the_environment(load: Load, urls: str, reason: str) -> None:
    with pytest.raises(SettingInvalid, match=reason) as refused:
        load(f"[upstreams.gpu]\nurls = {urls}\n")

    assert ": [upstreams.gpu] urls: " in str(refused.value)
    assert "hush" not in str(refused.value)


def test_an_upstream_needs_urls(load: Load) -> None:
    with pytest.raises(SettingInvalid, match=r"\[upstreams\.gpu\] urls: it is missing"):
        load("[upstreams.gpu]\nmodels = ['a']\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[upstream.gpu]\n", r"upstream: there is no such key: did you mean \[upstreams\.NAME\]\?"),
        ("[upstrems.gpu]\n", r"did you mean upstreams\?"),
        ("workers = 3\n", "workers: there is no such key: there are upstreams"),
        ("upstreams = 3\n", r"write a table \[upstreams\.NAME\]"),
        ("[[upstreams]]\n", r"write a table \[upstreams\.NAME\]"),
        ("[upstreams]\ngpu = 'http://gpu/v1'\n", r"it must be a table \[upstreams\.NAME\]"),
        ("[upstreams.GPU]\n", "a name has up to 32 of"),
        ("[upstreams.-gpu]\n", "a name has up to 32 of"),
        ("[upstreams.'']\n", "a name has up to 32 of"),
        (f"[upstreams.{'a' * 33}]\n", "a name has up to 32 of"),
        ("".join(f"[upstreams.a{number}]\n" for number in range(65)), "it has 65 upstreams: 64 is the most"),
    ],
)
def test_what_is_no_table_of_an_upstream_is_refused(load: Load, tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingInvalid, match=reason) as refused:
        load(text)

    assert str(refused.value).startswith(f"{tmp_path / 'wylon.toml'}: ")


@pytest.mark.parametrize(
    ("environ", "removed"),
    [
        ({"WYLON_UPSTREAM_URL": "http://host/v1"}, "please remove WYLON_UPSTREAM_URL from"),
        ({"WYLON_UPSTREAM_API_KEY": KEY}, "please remove WYLON_UPSTREAM_API_KEY from"),
        ({"WYLON_MODELS": "a", "WYLON_UPSTREAM_URL": "x"}, "please remove WYLON_UPSTREAM_URL and WYLON_MODELS from"),
    ],
)
def test_upstreams_of_the_file_and_of_the_environment_do_not_mix(
    load: Load, environ: dict[str, str], removed: str
) -> None:
    with pytest.raises(SettingInvalid, match=removed) as refused:
        load(SMALL, **environ)

    assert KEY not in str(refused.value)


def test_variables_that_are_empty_say_nothing_of_upstreams(load: Load) -> None:
    settings = load(SMALL, WYLON_UPSTREAM_URL="", WYLON_UPSTREAM_API_KEY="", WYLON_MODELS="")

    assert [spec.name for spec in settings.upstreams] == ["gpu"]


def test_no_key_is_in_what_python_shows_of_settings(load: Load) -> None:
    settings = load(FULL, WYLON_API_KEY="wy-hush")

    assert "hush" not in repr(settings)


def test_children_are_given_the_absolute_path_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wylon.toml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)

    given = child_environ({}, load_settings({}))

    assert given["WYLON_CONFIG"] == str(tmp_path / "wylon.toml")


def test_children_use_no_file_where_their_parent_used_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    given = child_environ({}, load_settings({}))

    assert given["WYLON_CONFIG"] == ""
