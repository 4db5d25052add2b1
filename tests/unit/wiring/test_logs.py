import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
PROGRAM = """
import structlog
from app.config import load_settings
from app.wiring.logs import set_up_logs

set_up_logs(load_settings({}))
structlog.get_logger().warning("disk.full")
print("went on")
"""


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full to stand for a full disk")
def test_a_log_that_cant_be_written_stops_nothing() -> None:
    with FULL.open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False
        )

    assert ended.stdout == "went on\n"
