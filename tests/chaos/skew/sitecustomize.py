"""Shifts the clock of a process that has this folder on its PYTHONPATH, by the seconds in CHAOS_SKEW_S."""

import os
import time

_shift_s = float(os.environ.get("CHAOS_SKEW_S", "0"))
if _shift_s:
    _true_time = time.time

    def _shifted() -> float:
        return _true_time() + _shift_s

    time.time = _shifted
