import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from tests.unit.adapters.upstream_server import refusing
from tests.unit.cli.stand_in import stand_in

KEY = "sk-hush"
UNSET = {"WYLON_CONFIG": None, "WYLON_UPSTREAM_URL": None, "WYLON_UPSTREAM_API_KEY": None, "WYLON_MODELS": None}


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["upstreams", *arguments], env={**UNSET, "GPU_KEY": KEY, **environ})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with stand_in() as client:
        yield str(client.base_url) + "/v1"


@pytest.fixture(scope="module")
def locked_url() -> Iterator[str]:
    with stand_in("--fail", "401") as client:
        yield str(client.base_url) + "/v1"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a file of the current folder goes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "wylon.toml"


def test_each_upstream_is_shown_without_a_call(config: Path) -> None:
    config.write_text(
        '[upstreams.gpu]\nurls = ["http://gpu1/v1", "http://gpu2/v1"]\nmodels = ["llama-*", "qwen"]\n'
        'endpoints = ["/v1/chat/completions"]\napi_key_env = "GPU_KEY"\nmax_in_flight = 512\n'
        "requests_per_minute = 6000\ntokens_per_minute = 2_000_000\nlatency_target_s = 2.5\n"
        '[upstreams.rest]\nurls = ["http://rest/v1"]\nadaptive = false\n'
    )

    result = run()

    assert result.exit_code == 0
    assert result.output.startswith(f"from {config}; ")
    for part in (
        "http://gpu1/v1",
        "http://gpu2/v1",
        "llama-*, qwen",
        "/v1/chat/completions",
        "GPU_KEY",
        "512 in flight, adapted to answers within 2.5 s",
        "6,000 requests a minute",
        "2,000,000 tokens a minute",
    ):
        assert part in result.output
    assert result.output.rstrip().endswith("64 in flight in each worker")
    assert KEY not in result.output
    assert "gets no lines" not in result.output


def test_without_a_file_the_one_of_the_environment_is_shown(config: Path) -> None:
    result = run(WYLON_UPSTREAM_URL="http://host/v1", WYLON_UPSTREAM_API_KEY=KEY)

    assert result.output.startswith("from the environment; ")
    assert "default " in result.output
    assert "WYLON_UPSTREAM_API_KEY" in result.output
    assert KEY not in result.output


def test_an_upstream_that_no_line_can_go_to_is_pointed_out(config: Path) -> None:
    config.write_text('[upstreams.a]\nurls = ["http://a/v1"]\n[upstreams.b]\nurls = ["http://b/v1"]\n')

    assert "b gets no lines: those before it have all its models." in run().output


def test_a_check_ends_well_where_all_answer(config: Path, url: str) -> None:
    config.write_text(f'[upstreams.gpu]\nurls = ["{url}"]\n')

    result = run("check")

    assert result.exit_code == 0, result.output
    assert "answers in " in result.output
    assert "wylon-echo" in result.output
    assert result.output.endswith("1 server: all fine\n")


def test_a_check_names_what_is_wrong_with_each_server(config: Path, url: str, locked_url: str) -> None:
    with refusing() as closed_url:
        config.write_text(
            f'[upstreams.gpu]\nurls = ["{url}", "{closed_url}"]\n'
            f'models = ["wylon-*"]\n[upstreams.cloud]\nurls = ["{locked_url}"]\nmodels = ["big"]\n'
            'api_key_env = "GPU_KEY"\n'
        )

        result = run("check")

    assert result.exit_code == 1
    rows = {line.split()[1]: line for line in result.output.splitlines()[1:4]}
    assert "answers in " in rows[url]
    assert "refuses connections" in rows[closed_url]
    assert "not listed" in rows[closed_url]
    assert "401: check GPU_KEY" in rows[locked_url]
    assert result.output.endswith("2 of 3 servers need a look\n")
    assert KEY not in result.output


def test_a_check_for_programs_is_json(config: Path, url: str) -> None:
    config.write_text(f'[upstreams.gpu]\nurls = ["{url}"]\nmodels = ["wylon-echo"]\n')

    (found,) = json.loads(run("check", "--json").output)

    assert found["upstream"] == "gpu"
    assert found["url"] == url
    assert found["is_fine"] is True
    assert found["models"] == ["wylon-echo"]


def test_a_server_that_hangs_is_waited_for_no_longer_than_it_is_told(config: Path) -> None:
    with stand_in("--fail", "hang") as client:
        config.write_text(f'[upstreams.gpu]\nurls = ["{client.base_url}/v1"]\n')

        result = run("check", "--timeout", "0.5")

    assert result.exit_code == 1
    assert "takes the call and does not answer within 0.5 s" in result.output


@pytest.mark.parametrize("before", [True, False])
def test_the_file_is_named_before_or_after_the_word_check(config: Path, url: str, before: bool) -> None:
    other = config.with_name("other.toml")
    other.write_text(f'[upstreams.other]\nurls = ["{url}"]\n')
    option = ["--config", str(other)]

    result = run(*option, "check") if before else run("check", *option)

    assert result.exit_code == 0
    assert "other" in result.output


def test_a_file_that_cannot_be_used_is_one_error(config: Path) -> None:
    config.write_text("[upstreams.gpu]\nurl = 'http://gpu/v1'\n")

    result = run("check")

    assert result.exit_code == 2
    assert "did you mean urls" in result.output


def test_up_takes_one_server_of_the_command_line_in_place_of_the_file(config: Path) -> None:
    config.write_text("broken")

    # The data folder can't be made, which is past the reading of settings.
    result = CliRunner().invoke(
        main, ["up", "--upstream", "http://host/v1", "--data", str(config / "data"), "--port", "0"], env=UNSET
    )

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: Can't use {config}")


def test_up_refuses_a_server_and_a_file_together(config: Path) -> None:
    result = CliRunner().invoke(main, ["up", "--upstream", "http://host/v1", "--config", "wylon.toml"], env=UNSET)

    assert result.exit_code == 2
    assert "one of the two" in result.output


def test_up_names_what_is_wrong_with_the_file(config: Path) -> None:
    config.write_text("[upstreams.gpu]\nurls = []\n")

    result = CliRunner().invoke(main, ["up", "--data", "data"], env=UNSET)

    assert result.exit_code == 2
    assert f"{config}: [upstreams.gpu] urls: " in result.output
    assert not config.with_name("data").exists()
