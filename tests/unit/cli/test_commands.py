import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from tests.unit.cli.stand_in import stand_in

# The variables of the environment that have a part in a call, all unset, in both spellings.
NO_VARIABLES = {
    spelt: None
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
    for spelt in (name, name.lower())
}


def run(*arguments: str, environ: Mapping[str, str | None] | None = None) -> Result:
    unset = {"WYLON_BASE_URL": None, "WYLON_API_KEY": None, "WYLON_DATA": None}
    return CliRunner().invoke(main, list(arguments), env={**unset, **(environ or {})})


def test_help_lists_every_command() -> None:
    result = run("--help")

    assert result.exit_code == 0
    for name in ("up", "submit", "list", "show", "cancel", "upstreams", "upstream", "migrate"):
        assert f"  {name} " in result.output
        assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "variable"),
    [
        (["--port", "99999"], {}, "WYLON_PORT"),
        (["--workers", "none"], {}, "WYLON_WORKERS"),
        (["--upstream", "ftp://x"], {}, "WYLON_UPSTREAM_URL"),
        ([], {"WYLON_COMPLETION_WINDOWS": "soon"}, "WYLON_COMPLETION_WINDOWS"),
        ([], {"WYLON_LINES_PER_TASK": "0"}, "WYLON_LINES_PER_TASK"),
        ([], {"WYLON_STORAGE_URL": "file://relative"}, "WYLON_STORAGE_URL"),
        (["--api-key", "kéy"], {}, "WYLON_API_KEY"),
    ],
)
def test_up_refuses_a_wrong_value_by_its_variable(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], variable: str
) -> None:
    result = run("up", "--data", str(tmp_path / "data"), *arguments, environ=environ)

    assert result.exit_code == 2
    assert variable in result.output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["up", "migrate"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_data_folder_that_cannot_be_is_one_line(tmp_path: Path, command: str, below: str) -> None:
    (tmp_path / "file").write_text("")

    result = run(command, environ={"WYLON_DATA": str(tmp_path / "file" / below), "WYLON_PORT": "0"})

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: Can't use {tmp_path / 'file'}")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "migrate"])
def test_a_database_that_is_not_there_is_one_line_without_its_password(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    environ = {
        "WYLON_DATA": str(tmp_path / "data"),
        "WYLON_PORT": "0",
        "WYLON_DATABASE_URL": f"postgresql://someone:hush@127.0.0.1:{port}/wylon",
        "WYLON_START_WAIT_S": "0",
    }

    result = run(command, environ=environ)

    assert result.exit_code == 1
    assert result.output.startswith("Error: No start within 0 s for want of database: ")
    assert f"127.0.0.1:{port}/wylon of WYLON_DATABASE_URL can't be used: nothing listens there" in result.output
    assert result.output.count("\n") == 1
    assert "hush" not in result.output
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_migrate_makes_the_data_folder_for_its_owner_alone(tmp_path: Path) -> None:
    result = run("migrate", environ={"WYLON_DATA": str(tmp_path / "data"), "WYLON_API_KEY": "wy-own"})

    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_variable_that_is_no_setting_is_warned_of(tmp_path: Path) -> None:
    result = run("migrate", environ={"WYLON_DATA": str(tmp_path), "WYLON_UPSTREAM": "http://host/v1"})

    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: WYLON_UPSTREAM is no setting")
    assert "WYLON_UPSTREAM_URL" in result.stderr


def test_upstream_refuses_a_fault_that_it_does_not_know() -> None:
    result = run("upstream", "--fail", "lunch:0.5")

    assert result.exit_code == 2
    assert "--fail" in result.output


def test_upstream_says_when_its_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("upstream", "--port", str(taken.getsockname()[1]))

    assert result.exit_code == 1
    assert "Can't listen on" in result.output


def test_a_client_command_without_a_key_says_where_to_get_one(tmp_path: Path) -> None:
    result = run("list", "--data", str(tmp_path))

    assert result.exit_code == 2
    assert "--api-key" in result.output


@pytest.mark.parametrize("data", ["", "~no-such-user/data", "/" + 256 * "x", "/\udcff", "/dev/null"])
def test_a_client_command_refuses_a_folder_that_cannot_be_in_one_line(data: str) -> None:
    result = run("list", "--data", data)

    assert result.exit_code == 2
    assert "Error: " in result.output
    assert isinstance(result.exception, SystemExit)


def test_an_api_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("wy-kept\n")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    result = run("list", "--base-url", f"http://127.0.0.1:{port}/v1", "--data", str(tmp_path))

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: No answer from http://127.0.0.1:{port}/v1")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_call_to_this_machine_uses_no_proxy(host: str, variable: str) -> None:
    with api_that_knows_no_key() as base_url, socket.create_server(("127.0.0.1", 0)) as closed:
        environ = {**NO_VARIABLES, variable: f"http://127.0.0.1:{closed.getsockname()[1]}"}
        closed.close()

        result = run("list", "--base-url", base_url.replace("127.0.0.1", host), "--api-key", "k", environ=environ)

    assert "(HTTP 401)" in result.output
    assert "proxy" not in result.output


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_does_not_answer_is_named_without_its_password(variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    environ = {**NO_VARIABLES, variable: f"http://someone:hush@127.0.0.1:{port}"}

    result = run("list", "--base-url", "http://wylon.test/v1", "--api-key", "k", environ=environ)

    assert result.exit_code == 1
    assert f"the proxy http://…@127.0.0.1:{port} of {variable.upper()}" in result.output
    assert "add wylon.test to NO_PROXY" in result.output
    assert "hush" not in result.output
    assert result.output.count("\n") == 1


def test_an_error_of_a_proxy_is_told_with_the_proxy() -> None:
    with api_that_knows_no_key(b"<html>") as proxy:
        environ = {**NO_VARIABLES, "HTTP_PROXY": proxy}

        result = run("list", "--base-url", "http://wylon.test/v1", "--api-key", "k", environ=environ)

    assert "(HTTP 401). The call went to the proxy http://127.0.0.1:" in result.output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/no/such/file"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSLKEYLOGFILE", "/no/such/folder/keys"),
        ("HTTPS_PROXY", "ftp://hush"),
        ("HTTP_PROXY", "http://someone:hush#1@host:3128"),
        ("ALL_PROXY", "socks5://hush"),
    ],
)
@pytest.mark.parametrize("command", ["list", "submit"])
def test_a_variable_of_the_environment_that_cannot_be_used_is_one_line(
    tmp_path: Path, command: str, variable: str, value: str
) -> None:
    (tmp_path / "lines.jsonl").write_text("{}")
    given = (str(tmp_path / "lines.jsonl"),) if command == "submit" else ()

    result = run(
        command,
        *given,
        "--base-url",
        "http://wylon.test/v1",
        "--api-key",
        "k",
        environ={**NO_VARIABLES, variable: value},
    )

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {variable} can't be used: ")
    assert "hush" not in result.output
    assert result.output.count("\n") == 1


def test_a_base_url_that_is_no_address_is_one_line() -> None:
    result = run("list", "--base-url", "http://host:port/v1", "--api-key", "k")

    assert result.exit_code == 1
    assert result.output == "Error: --base-url or WYLON_BASE_URL is no address: give http://HOST:PORT/v1.\n"


@contextmanager
def api_that_knows_no_key(said: bytes = b'{"error": {"message": "Incorrect API key provided."}}') -> Iterator[str]:
    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("given", [(), ("--api-key", "wy-other")])
def test_a_refused_key_says_where_the_key_is_from_and_what_to_do(tmp_path: Path, given: tuple[str, ...]) -> None:
    (tmp_path / "api-key").write_text("wy-kept\n")
    with api_that_knows_no_key() as base_url:
        result = run("list", "--base-url", base_url, "--data", str(tmp_path), *given)

    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "(HTTP 401)" in result.output
    if given:
        assert "given by --api-key or WYLON_API_KEY" in result.output
    else:
        assert f"the one that {tmp_path} keeps" in result.output
        assert "give that key here too, by --api-key or WYLON_API_KEY" in result.output


def test_an_error_of_the_api_is_one_line(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps({"custom_id": "a"}))
    with stand_in() as upstream:
        # The stand-in has no files: its 404 is what an API's error looks like.
        result = run("submit", str(requests), "--base-url", f"{upstream.base_url}/v1", "--api-key", "k")

    assert result.exit_code == 1
    assert result.output == "Error: Unknown request URL: POST /v1/files. (HTTP 404)\n"


def test_submit_refuses_a_file_that_is_not_there() -> None:
    assert run("submit", "/no/such/file.jsonl", "--api-key", "k").exit_code == 2
