import subprocess
from pathlib import Path

import psutil
import pytest

from app.cli.main import hide_secrets
from tests.integration.processes import WYLON, Process, environ_of


@pytest.mark.parametrize(
    ("arguments", "shown", "hidden"),
    [
        (["up", "--api-key", "hush", "--port", "1"], ["up", "--port", "1"], {"WYLON_API_KEY": "hush"}),
        (["submit", "--api-key=hush", "file"], ["submit", "file"], {"WYLON_API_KEY": "hush"}),
        (["up", "--broker-url", "redis://:hush@h"], ["up"], {"WYLON_BROKER_URL": "redis://:hush@h"}),
        (["list"], ["list"], {}),
        (["submit", "--", "--api-key"], ["submit", "--", "--api-key"], {}),
        (["up", "--api-key"], ["up", "--api-key"], {}),
    ],
)
def test_options_that_hold_secrets_become_variables(
    arguments: list[str], shown: list[str], hidden: dict[str, str]
) -> None:
    assert hide_secrets(arguments) == (shown, hidden)


def test_a_key_that_was_typed_is_in_no_process_list(tmp_path: Path) -> None:
    command = [WYLON, "up", "--api-key", "wy-hush", "--port", "0", "--data", str(tmp_path / "data")]
    process = Process(command, tmp_path / "log", environ_of({}), tmp_path)
    try:
        process.await_address()
        supervisor = psutil.Process(process.pid)
        seen = [" ".join(each.cmdline()) for each in [supervisor, *supervisor.children(recursive=True)]]
    finally:
        process.end()

    assert len(seen) > 4
    assert not [line for line in seen if "hush" in line]


def test_an_option_without_its_value_is_told() -> None:
    done = subprocess.run([WYLON, "list", "--api-key"], capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "--api-key" in done.stderr


def test_a_key_that_no_header_can_carry_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [WYLON, "list", "--api-key", "kéy"],
        env=environ_of({"API_KEY": "wy-other"}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert "no header can carry" in done.stderr
    assert "Traceback" not in done.stderr
