import re
import shlex
import subprocess
from pathlib import Path

import pytest

from app.cli.up import processes
from app.cli.up.broker import embed_broker
from app.cli.up.options import child_environ
from app.config import Settings, load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings() -> Settings:
    return load_settings({})


def procfile_command(name: str) -> list[str]:
    """Return what a line of the Procfile ends as, split as a shell does, every variable at its default."""
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    _before, replaced_by, command = lines[name].rpartition("exec ")
    assert replaced_by, "a shell that stays would keep signals from the process"
    return shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command))


def test_the_procfile_runs_what_up_runs(settings: Settings) -> None:
    assert procfile_command("web") == ["python", *processes.web_command("127.0.0.1:8080")]
    assert procfile_command("control") == ["python", *processes.control_command(settings)]
    assert procfile_command("files") == ["python", *processes.files_command(settings)]
    assert procfile_command("worker") == ["python", *processes.worker_command(settings, "worker-$$")]
    assert procfile_command("beat") == ["python", *processes.beat_command(settings)]


@pytest.mark.parametrize(
    ("port", "bound"), [("9090", "9090"), ("", "8080"), ("tcp://10.0.0.7:8080", "8080"), ("udp://[fd00::1]:53", "8080")]
)
def test_the_web_process_of_the_procfile_ignores_a_port_that_is_an_address_of_kubernetes(port: str, bound: str) -> None:
    web = re.search(r"^web: wylon migrate && (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert web is not None
    shown = web[1].replace("exec python", "echo")

    said = subprocess.run(
        ["sh", "-c", shown],
        env={"WYLON_PORT": port},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"--bind 127.0.0.1:{bound} " in said.stdout


@pytest.mark.parametrize("name", ["web", "control", "files", "worker", "beat"])
def test_compose_runs_what_the_procfile_runs(name: str) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    service = re.search(rf"^  {name}:\n(.*?)(?=^  \w|^\w)", text, re.MULTILINE | re.DOTALL)
    assert service is not None
    compose = " ".join(service[1].split())

    # The address and the node's name are a container's own.
    own = {"--bind", "-n"}
    words = procfile_command(name)
    for before, word in zip(["", *words], words, strict=False):
        assert before in own or word in compose


def test_a_broker_whose_path_is_too_long_gets_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)

    broker = embed_broker(deep)

    assert len(str(broker.socket)) < 100
    assert broker.short_folder is not None
    broker.clean_up()
    assert not broker.short_folder.exists()


def test_the_broker_is_for_this_machine_alone_and_refuses_when_full(tmp_path: Path) -> None:
    broker = embed_broker(tmp_path)

    command = list(broker.command())

    assert command[command.index("--port") + 1] == "0"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert broker.url == f"redis+socket://{tmp_path}/broker.sock?virtual_host=0"


def test_children_are_given_paths_that_hold_in_any_folder() -> None:
    environ = {"WYLON_DATABASE_URL": "sqlite:///here.db", "WYLON_DATA": "there", "WYLON_MODELS": "a,b", "HOME": "/home"}

    given = child_environ(environ, load_settings(environ))

    assert given["WYLON_DATABASE_URL"] == f"sqlite:///{Path('here.db').absolute()}"
    assert given["WYLON_DATA"] == str(Path("there").absolute())
    assert given["WYLON_MODELS"] == "a,b"
    assert given["HOME"] == "/home"
