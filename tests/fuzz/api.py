"""Schemathesis over /openapi.json with all checks: `python -m tests.fuzz.api --requests 5000`."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from tests.e2e.deployed import API_KEY, Deployed
from tests.fuzz.api_answers import COUNTS
from tests.integration.processes import environ_of

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
ST = str(Path(sys.executable).with_name("st"))
PHASES = "examples,coverage,fuzzing,stateful"
_RUN_WITHIN_S = 900


@dataclass
class Run:
    """What one run of schemathesis came to."""

    is_clean: bool
    said: str
    answers: Counter[int]


def run_schemathesis(deployed: Deployed, *, seed: int, examples: int, phases: str = PHASES) -> Run:
    """Send what schemathesis makes of the description, and have it check each answer."""
    root = deployed.base_url.removesuffix("/v1")
    with tempfile.TemporaryDirectory(prefix="wylon-fuzz-") as folder:
        counts = Path(folder) / "counts.json"
        environ = environ_of({}) | {"SCHEMATHESIS_HOOKS": "tests.fuzz.api_answers", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [
                *(ST, "--config-file", str(CONFIG), "run", f"{root}/openapi.json", "--checks", "all"),
                *("-H", f"Authorization: Bearer {API_KEY}", "--phases", phases, "--seed", str(seed)),
                *("--max-examples", str(examples), "--no-shrink", "--continue-on-failure"),
                *("--suppress-health-check", "all", "--request-timeout", "30"),
            ],
            env=environ | {COUNTS: str(counts)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_RUN_WITHIN_S,
        )
        answers = json.loads(counts.read_text()) if counts.exists() else {}
    return Run(not done.returncode, done.stdout + done.stderr, Counter({int(key): n for key, n in answers.items()}))


def main() -> int:
    """Run until so many requests were answered; the exit code says whether all checks held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=100, help="for each operation and run")
    options = parser.parse_args()
    answers: Counter[int] = Counter()
    failed: list[str] = []
    began_at, seed = time.monotonic(), options.seed
    deployed = Deployed()
    try:
        while answers.total() < options.requests:
            run = run_schemathesis(deployed, seed=seed, examples=options.examples)
            answers += run.answers
            click.echo(f"seed {seed}: {run.answers.total()} requests, {'clean' if run.is_clean else 'FAILED'}")
            if not run.is_clean:
                failed.append(run.said)
            if not run.answers:
                break
            seed += 1
    finally:
        deployed.end()
    classes = {f"{n}xx": sum(count for status, count in answers.items() if status // 100 == n) for n in range(2, 6)}
    took_s = time.monotonic() - began_at
    click.echo(f"{answers.total()} requests in {took_s:.0f} s: {classes}; by status: {dict(sorted(answers.items()))}")
    click.echo("\n".join(failed))
    return 1 if failed or classes["5xx"] or not answers else 0


if __name__ == "__main__":
    sys.exit(main())
