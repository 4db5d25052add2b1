"""Every dependency is pinned, and each pin was looked at by somebody: name, version, licence and day are on a list.

`pip-audit -r constraints.txt` says more where its service can be reached. The list is what holds where it can't.
"""

import re
from datetime import date

from tests.architecture.source import ROOT

_REVIEWED = ROOT / "tests" / "architecture" / "reviewed_dependencies.txt"
# Licences under which a dependency may be used beside our MIT without duties for those who run it. SPDX names.
ALLOWED = {
    *("MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "PSF-2.0", "ISC", "Unlicense", "MIT-0"),
    *("0BSD", "CC0-1.0", "MIT-CMU", "Zlib"),
    # Used unchanged, as libraries of their own.
    *("MPL-2.0", "LGPL-3.0-only"),
}


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")}


def reviewed() -> dict[str, tuple[str, str]]:
    """Return licence and day of each reviewed pin."""
    rows = [line.split() for line in _REVIEWED.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {pin: (licence, day) for pin, licence, day in rows}


def test_every_pinned_dependency_is_reviewed_and_no_other() -> None:
    assert pinned() == reviewed().keys()


def test_every_dependency_has_a_licence_that_is_allowed() -> None:
    used = {part for licence, _ in reviewed().values() for part in re.split(r"-AND-|-OR-", licence)}

    assert used <= ALLOWED


def test_every_review_has_its_day() -> None:
    assert all(date.fromisoformat(day) for _, day in reviewed().values())
