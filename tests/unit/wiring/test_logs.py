import subprocess
import sys
from pathlib import Path

import pytest

from app.wiring.logs import visible

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


# Escapes of the terminal, a bell, a return, the C1 form of an escape, a mark that turns the direction of writing, and
# the line breaks that are none for `split`.
HOSTILE = "\x1b[2J\x07\r\x9b31m\u202e\u2028\x85\x00"
NOISE = f"""
import logging
import structlog
from app.config import load_settings
from app.wiring.logs import set_up_logs

HOSTILE = {HOSTILE!r}
logging.basicConfig()
set_up_logs(load_settings({{}}))
structlog.get_logger().warning("seen", path=HOSTILE, inner={{"header": [HOSTILE]}}, **{{HOSTILE: 1}})
logging.getLogger("gunicorn.error").warning("Invalid request: %s", HOSTILE)
logging.getLogger("celery").warning(HOSTILE + chr(10) + "2026-01-01 faked=line")
for log in (structlog.get_logger().exception, logging.getLogger("celery").exception):
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log("failed")
"""


def test_control_characters_of_a_caller_never_reach_the_log_as_they_are() -> None:
    ended = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, timeout=60, check=True)

    log = ended.stderr.decode()
    assert all(char.isprintable() for char in log.replace("\n", ""))
    assert log.count("\\x1b[2J") >= 7
    assert not any(line.startswith("2026-01-01 faked") for line in log.split("\n"))


@pytest.mark.parametrize("text", ["plain", "Grüße, 你好 💩", "a\\b"])
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


LIBRARIES = """
import logging, warnings
from app.config import load_settings
from app.wiring.logs import log_libraries, set_up_logs

set_up_logs(load_settings({}))
log_libraries(logging.WARNING)
logging.getLogger("celery.worker").warning("Connection to %s lost", "the broker")
logging.getLogger("celery.worker").info("not from this level on")
warnings.warn("superuser")
try:
    raise ValueError("two\\nlines")
except ValueError:
    logging.getLogger("kombu").exception("failed")
"""


def test_what_libraries_log_is_one_line_each_in_the_format_of_ours() -> None:
    ended = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, timeout=60, check=True, text=True)

    lines = ended.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("timestamp=") for line in lines)
    assert 'level=warning event="Connection to the broker lost" logger=celery.worker' in lines[0]
    assert "UserWarning: superuser" in lines[1]
    assert "ValueError: two" in lines[2]
