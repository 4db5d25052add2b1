"""The tables of CONTRIBUTING.md name every target of make and every folder of tests."""

import re

from tests.architecture.source import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_the_table_of_targets_has_every_target_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)) - {"help"}

    told = set(re.findall(r"^\| `make ([a-z-]+)", CONTRIBUTING, re.MULTILINE))

    assert "test" in targets
    assert told == targets


def test_the_table_of_tests_has_every_folder_of_tests() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}

    told = set(re.findall(r"^\| `tests/([a-z0-9_]+)/` \|", CONTRIBUTING, re.MULTILINE))

    assert "unit" in folders
    assert told == folders
