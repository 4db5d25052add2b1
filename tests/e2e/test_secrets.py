"""Secrets stay where they belong: nothing that a run leaves behind, or shows while it runs, has one in clear."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from app.domain.api_key import keyed_hash, plain_hash
from tests.e2e.deployed import Deployed, await_end, submit
from tests.integration.pipeline import request_line

pytestmark = pytest.mark.e2e

# Random, so that nothing has them by chance; and not the key that all other tests use.
CALLER_KEY = f"wy-{secrets.token_urlsafe(24)}"
UPSTREAM_KEY = f"sk-{secrets.token_urlsafe(24)}"
WRONG_KEY = f"wy-{secrets.token_urlsafe(24)}"
SECRETS = {"the caller's key": CALLER_KEY, "the upstream's key": UPSTREAM_KEY, "a wrong key": WRONG_KEY}


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    """A deployment that says all it can, and has served good requests, bad ones and ones with a wrong key."""
    deployed = Deployed(API_KEY=CALLER_KEY, UPSTREAM_API_KEY=UPSTREAM_KEY, LOG_LEVEL="debug")
    yield deployed
    deployed.end()


@pytest.fixture(scope="module")
def answers(deployed: Deployed) -> list[str]:
    """What callers were told, headers and bodies."""
    client = deployed.client().with_options(api_key=CALLER_KEY)
    lines = [request_line("a", "hello"), request_line("b", "[[fail:400]]"), request_line("c", "[[fail:401]]")]
    await_end(client, submit(client, lines).id)
    url = deployed.base_url
    told = []
    with httpx.Client(trust_env=False, timeout=30) as http:
        for key in (CALLER_KEY, WRONG_KEY):
            http.headers["authorization"] = f"Bearer {key}"
            asked = [
                http.get(f"{url}/batches"),
                http.get(f"{url}/models"),
                http.get(f"{url}/files/file-none"),
                http.post(f"{url}/batches", content=b"{broken"),
                http.post(f"{url}/files", content=b"no form"),
                http.get(f"{url}/nothing"),
                http.get(url.removesuffix("/v1") + "/openapi.json"),
            ]
            told += [f"{answer.headers} {answer.text}" for answer in asked]
        told.append(http.get(f"{url}/batches", headers={"authorization": f"{WRONG_KEY}"}).text)
        told.append(http.get(f"{url}/batches", headers={"authorization": f"Basic {WRONG_KEY}"}).text)
    for file in client.files.list():
        told.append(client.files.content(file.id).text)
    return told


def left_behind(deployed: Deployed) -> list[Path]:
    """Return every file of the data folder and every log."""
    return [path for path in deployed.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", SECRETS)
def test_no_answer_has_a_secret(answers: list[str], name: str) -> None:
    assert [answer for answer in answers if SECRETS[name] in answer] == []


@pytest.mark.parametrize("name", SECRETS)
def test_no_log_database_or_blob_has_a_secret(deployed: Deployed, answers: list[str], name: str) -> None:
    files = left_behind(deployed)

    assert {"wylon.db", "web.log", "worker-1.log"} <= {path.name for path in files}
    assert [path.name for path in files if SECRETS[name].encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", SECRETS)
def test_no_process_shows_a_secret_in_its_arguments(deployed: Deployed, answers: list[str], name: str) -> None:
    commands = [" ".join(process.cmdline()) for process in deployed.processes()]

    assert len(commands) > 5
    assert [command for command in commands if SECRETS[name] in command] == []


@pytest.mark.parametrize("name", SECRETS)
def test_the_broker_holds_no_secret(deployed: Deployed, answers: list[str], name: str) -> None:
    with redis.Redis(unix_socket_path=str(deployed.data / "run" / "broker.sock")) as broker:
        held = {key: broker.dump(key) or b"" for key in broker.scan_iter("*")}

    assert [key for key, value in held.items() if SECRETS[name].encode() in key + value] == []


def test_the_database_knows_a_key_by_its_keyed_hash_alone(deployed: Deployed, answers: list[str]) -> None:
    stored = b"".join(path.read_bytes() for path in deployed.data.glob("wylon.db*"))
    secret = bytes.fromhex((deployed.data / "secret").read_text())

    assert keyed_hash(secret, plain_hash(CALLER_KEY)).encode() in stored
    assert plain_hash(CALLER_KEY).encode() not in stored
    assert keyed_hash(secret, plain_hash(WRONG_KEY)).encode() not in stored
    assert secret not in stored
