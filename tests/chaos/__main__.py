"""`python -m tests.chaos`: rounds of faults over both databases, and a table of what they came to."""

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from tests.chaos.faults import EVERYTHING, FAULTS
from tests.chaos.house import POSTGRESQL, SQLITE
from tests.chaos.report import make_table
from tests.chaos.round import Outcome
from tests.chaos.tenancy import Tenancy

_ROUNDS = 200
_END_WITHIN_S = 120.0
_MARK = "outcome "


class SuiteBroke(Exception):
    """The suite itself has a fault."""


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    options = _options()
    if options.list:
        click.echo("\n".join(f"{fault.name}: {', '.join(sorted(fault.databases))}" for fault in FAULTS))
        return 0
    click.echo(f"seed {options.seed}")
    databases = [SQLITE, POSTGRESQL] if options.database == "both" else [options.database]
    outcomes: list[Outcome] = []
    is_whole = True
    try:
        if len(databases) == 1:
            _play(options, databases[0], outcomes)
        else:
            _side_by_side(options, databases, outcomes)
    except (SystemExit, KeyboardInterrupt):
        is_whole = False
        click.echo("Broken off.")
    if options.one_of_two:
        return int(any(outcome.violations for outcome in outcomes))
    table = make_table(outcomes, options.seed) if outcomes else "No round was run."
    click.echo(f"\n{table}")
    if options.markdown:
        options.markdown.write_text(f"{table}\n")
    return int(not outcomes or not is_whole or any(outcome.violations for outcome in outcomes))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"rounds over all databases [{_ROUNDS}]")
    parser.add_argument("--round", type=int, help="this round alone, of one database")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="what every plan derives from")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL, "both"), default="both")
    parser.add_argument("--faults", metavar="GLOB,…", default=EVERYTHING, help="faults to choose from; see --list")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there, too")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    # Says each outcome in a form that the process which started this one reads.
    parser.add_argument("--one-of-two", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round is not None and options.database == "both":
        parser.error("--round needs --database sqlite or postgresql")
    return options


def _play(options: argparse.Namespace, database: str, outcomes: list[Outcome]) -> None:
    """Run the rounds of one database in this process."""

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        _print(outcome, options.seed)
        if options.one_of_two:
            click.echo(f"{_MARK}{json.dumps(outcome.as_json())}")

    numbers = [options.round] if options.round is not None else range(options.rounds)
    Tenancy(options.seed, database, options.faults, tell).run(numbers)


def _side_by_side(options: argparse.Namespace, databases: list[str], outcomes: list[Outcome]) -> None:
    """Run a process for each database; their rounds are told as they end."""
    share = -(-options.rounds // len(databases))
    command = [sys.executable, "-m", "tests.chaos", "--seed", str(options.seed), "--faults", options.faults]
    command += ["--rounds", str(share), "--one-of-two"]
    running = [
        subprocess.Popen([*command, "--database", name], stdout=subprocess.PIPE, text=True) for name in databases
    ]
    readers = [threading.Thread(target=_read, args=[process, outcomes], daemon=True) for process in running]
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(_END_WITHIN_S)
    if any(process.returncode not in (0, 1) for process in running):
        raise SuiteBroke("A process of the suite ended before its rounds were over: see above.")


def _read(process: "subprocess.Popen[str]", outcomes: list[Outcome]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_MARK):
            outcomes.append(Outcome(**json.loads(line.removeprefix(_MARK))))
        elif not line.startswith("seed "):
            click.echo(line, nl=False)


def _print(outcome: Outcome, seed: int) -> None:
    verdict = "VIOLATED" if outcome.violations else "kept"
    click.echo(
        f"{outcome.database} {outcome.number:3} {verdict:8} {outcome.elapsed_s:5.1f} s  {outcome.title}"
        f"  again {outcome.repeated}/{outcome.allowed}  {'; '.join(outcome.notes)}",
    )
    for violation in outcome.violations:
        click.echo(f"    seed {seed} round {outcome.number}: {violation}")
    if outcome.logs:
        click.echo(f"    logs: {outcome.logs}")


def _stop(_number: int, _frame: FrameType | None) -> None:
    # Whoever ends a group of processes tells each of them, and the first of them tells the others again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
