"""Hosts that are cut off without a word; needs network namespaces, and skips itself where they are not allowed."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.integration.silent_hosts import CALLS, THINKS_S

pytestmark = pytest.mark.integration

_ALONE = ["unshare", "--net", "--map-root-user"]
# The bar for a batch whose upstream is cut off. A loaded machine is given some of it.
_NOTICED_WITHIN_S = 60.0

Calls = list[dict[str, object]]


@pytest.fixture(scope="module")
def said() -> dict[str, Calls]:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("the commands unshare and ip make the network that is cut")
    tried = subprocess.run(
        [*_ALONE, "ip", "link", "add", "name", "near", "type", "veth", "peer", "name", "far"], capture_output=True
    )
    if tried.returncode:
        pytest.skip(f"no network namespaces here: {tried.stderr.decode().strip()}")
    command = [*_ALONE, sys.executable, "-m", "tests.integration.silent_hosts"]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=110)
    found: dict[str, Calls] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("calls", ["waiting", "sent"])
def test_calls_to_a_host_that_is_cut_off_end_within_a_minute(said: dict[str, Calls], calls: str) -> None:
    assert len(said[calls]) == CALLS
    for call in said[calls]:
        assert call["trouble"] == "away"
        assert "The upstream is gone" in str(call["error"])
        assert float(str(call["took_s"])) < _NOTICED_WITHIN_S


def test_a_new_call_to_a_host_that_is_cut_off_gets_no_connection(said: dict[str, Calls]) -> None:
    assert [(call["trouble"], call["error"][0]) for call in said["new"]] == [("away", "connect_timed_out")]  # type: ignore[index]


def test_a_server_that_thinks_or_takes_no_more_of_a_request_for_long_is_not_taken_for_gone(
    said: dict[str, Calls],
) -> None:
    assert [call["trouble"] for call in said["slow"]] == ["none", "none"]
    assert all(float(str(call["took_s"])) > THINKS_S - 1 for call in said["slow"])
