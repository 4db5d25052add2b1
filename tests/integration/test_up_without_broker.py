"""`wylon up` beside a broker of others that can't be used."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.main import main
from tests.integration.brokers import free_port, open_server


@pytest.mark.parametrize("place", ["wrong password", "no such database", "nothing listens"])
def test_a_broker_that_can_not_be_used_is_told_with_its_address_and_cure(tmp_path: Path, place: str) -> None:
    with open_server("--requirepass", "right", "--databases", "2") as port:
        url, cure = {
            "wrong password": (f"redis://:hush@127.0.0.1:{port}/0", "correct user and password"),
            "no such database": (f"redis://:right@127.0.0.1:{port}/7", "no database of this number"),
            "nothing listens": (f"redis://:hush@127.0.0.1:{free_port()}/0", "nothing listens there"),
        }[place]
        environ = {"WYLON_BROKER_URL": url, "WYLON_START_WAIT_S": "0"}

        told = CliRunner(env=environ).invoke(main, ["up", "--data", str(tmp_path / "data"), "--port", "0"])

    assert told.exit_code == 1
    assert cure in told.output
    assert url.rpartition("@")[2].partition("/")[0] in told.output
    assert "hush" not in told.output
    # No process was begun in vain.
    assert not list((tmp_path / "data" / "log").glob("*.log"))
