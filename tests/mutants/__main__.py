"""Put small faults into copies of the code, one at a time, and see which of them no test notices.

`python -m tests.mutants --count 300 --seed 1` prints each fault that survived, and a count. First all tests run
once, with coverage, which says of each line the tests that reach it: these alone try a fault in that line.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.guards import copy_project
from tests.architecture.source import modules, name_of
from tests.mutants.operators import Mutant, Mutants

FOLDERS = ("app/adapters", "app/services", "workers")
# Tables and their migrations are compared with each other by a test of their own.
NOT_TRIED = ("/migrations/", "app/adapters/db/tables.py")
# Tests that run in one process: coverage does not see further.
TESTS = (
    "tests/unit",
    "tests/contracts",
    "tests/races",
    "tests/integration/test_chord.py",
    "tests/integration/test_transport.py",
)
# Faults that take out a guard come before faults that any use of the code would show.
WEIGHTS = Counter(
    {
        "a condition of a query goes": 4,
        "a part of a query goes": 3,
        "a statement goes": 3,
        "a part of a condition goes": 3,
        "two statements change places": 2,
        "condition holds never": 2,
        "condition holds always": 2,
        "a number becomes 0": 2,
        "a number times 1000": 2,
    }
)
LIMIT_S = 240.0
TEST_LIMIT_S = 30
COVER_LIMIT_S = 1_800.0


def main() -> int:
    """Try the faults that the options ask for; return the exit code, which is 1 where one survived."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder).resolve()
        copy_project(copy)
        chosen = choose(options.count, options.seed, options.only)
        _say(f"{len(chosen)} mutants of seed {options.seed}")
        covered = options.covered or copy / ".coverage"
        if not covered.is_file():
            measure = [
                "-p",
                "pytest_cov",
                "-p",
                "pytest_timeout",
                "--cov=app",
                "--cov=workers",
                "--cov-context=test",
                "--cov-report=",
            ]
            if _pytest(copy, measure, TESTS, COVER_LIMIT_S) != 0:
                _say("The tests don't pass without a fault.")
                return 1
            if options.covered:
                shutil.copyfile(copy / ".coverage", covered)
        reached = Reached(covered)
        ended: Counter[str] = Counter()
        for version, mutant in enumerate(chosen, 1):
            end = _try(mutant, reached, copy, version)
            ended[end] += 1
            if end != "killed" or options.all:
                _say(f"{end:<10} {mutant.shown((copy / mutant.file).read_bytes())}")
    _say("  ".join(f"{end}: {count}" for end, count in sorted(ended.items())))
    return 1 if ended["SURVIVED"] or ended["UNREACHED"] else 0


def choose(count: int, seed: int, only: str) -> list[Mutant]:
    """Return so many mutants, the same for a seed; modules have a part in proportion to what can be done to them."""
    files = [path for path in modules(*FOLDERS) if not any(part in f"/{name_of(path)}" for part in NOT_TRIED)]
    found = [
        m for path in files if name_of(path).startswith(only) for m in Mutants(name_of(path), path.read_bytes()).found
    ]
    draw = random.Random(seed)
    # The largest of such draws are a sample without repetition in which each has its weight.
    ranked = sorted(found, key=lambda mutant: draw.random() ** (1 / (WEIGHTS[mutant.kind] or 1)), reverse=True)
    return sorted(ranked[:count])


class Reached:
    """Which tests reach a statement, by the arcs that coverage keeps; the most particular tests first."""

    def __init__(self, covered: Path) -> None:
        self._connection = sqlite3.connect(covered)
        self._arcs: Counter[str] = Counter()
        for context, arcs in self._ask("SELECT context, count(*) {} GROUP BY context"):
            self._arcs[_test_of(context)] += arcs

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests of the mutant's line; of a line that is run when its module is imported, the module's."""
        in_file, file = "SELECT DISTINCT context {} WHERE path LIKE ?", f"%/{mutant.file}"
        contexts = self._ask(f"{in_file} AND ? IN (fromno, tono)", file, mutant.statement)
        tests = {_test_of(context) for (context,) in contexts} - {""}
        if contexts and not tests:
            tests = {_test_of(context) for (context,) in self._ask(in_file, file)} - {""}
        return sorted(tests, key=lambda test: (self._arcs[test], test))

    def _ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        arcs = "FROM arc JOIN context ON context.id = context_id JOIN file ON file.id = file_id"
        return self._connection.execute(query.format(arcs), values).fetchall()


def _test_of(context: str) -> str:
    return context.rpartition("|")[0]


def _try(mutant: Mutant, reached: Reached, copy: Path, version: int) -> str:
    tests = reached.tests(mutant)
    if not tests:
        return "UNREACHED"
    path = copy / mutant.file
    whole = path.read_bytes()
    path.write_bytes(mutant.apply(whole))
    # Bytecode is taken for another version's by the time of the source, in whole seconds.
    os.utime(path, times=(version, version))
    try:
        code = _pytest(copy, ["-x", f"--timeout={TEST_LIMIT_S}"], tests)
    finally:
        path.write_bytes(whole)
        os.utime(path, times=(0, 0))
    if code == pytest.ExitCode.USAGE_ERROR and _pytest(copy, ["--collect-only"], tests):
        raise RuntimeError(f"There are no such tests any more: {tests}")
    return "SURVIVED" if code == pytest.ExitCode.OK else "killed"


def _pytest(copy: Path, options: list[str], tests: Iterable[str], limit_s: float = LIMIT_S) -> int:
    """Run tests in the copy; return the exit code."""
    # Plugins that no test here needs would take four times as long to load as the rest.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # The ids of all tests may be more than a command line takes.
    (copy / "tests.txt").write_text("\n".join(tests), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*command, *options, "@tests.txt"],
        cwd=copy,
        env=environment,
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many mutants are tried")
    parser.add_argument("--seed", type=int, default=1, help="which of them")
    parser.add_argument("--only", default="", help="of files whose names begin so")
    parser.add_argument("--all", action="store_true", help="print also what was killed")
    parser.add_argument("--covered", type=Path, help="which tests reach which lines; made where it is missing")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
