"""Loaded by schemathesis: counts the answers by status, for whoever started it."""

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

COUNTS = "WYLON_FUZZ_COUNTS"

_counts: Counter[int] = Counter()


@schemathesis.hook
def after_call(_context: Any, _case: Any, response: Any) -> None:
    _counts[response.status_code] += 1


def _write() -> None:
    Path(os.environ[COUNTS]).write_text(json.dumps(_counts))


if COUNTS in os.environ:
    atexit.register(_write)
