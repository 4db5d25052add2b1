"""Follow a batch to its end, and fetch the result files."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.client.api_client import ApiAway, ApiClient, ApiError
from app.cli.client.failures import most_frequent_error

FINAL_STATUSES = frozenset({"completed", "failed", "expired", "cancelled"})
# Often enough to look live, seldom enough for a thousand watchers to cost almost no load.
_FIRST_LOOK_S = 0.2
_LOOK_EVERY_S = 1.0
# Longer than a web process takes to restart.
_GIVE_UP_AFTER_S = 60.0


def follow(client: ApiClient, batch: dict[str, Any], console: Console) -> dict[str, Any]:
    """Show progress until the batch has ended; return the ended batch."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
    )
    pause_s = _FIRST_LOOK_S
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None, failed="")
        while True:
            counts = batch.get("request_counts") or {"total": 0, "completed": 0, "failed": 0}
            progress.update(
                bar,
                description=batch["status"],
                total=counts["total"] or None,
                completed=counts["completed"] + counts["failed"],
                failed=f"{counts['failed']} failed" if counts["failed"] else "",
            )
            if batch["status"] in FINAL_STATUSES:
                return batch
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LOOK_EVERY_S)
            batch = _look(client, batch["id"])


def follow_to_end(
    client: ApiClient, batch: dict[str, Any], console: Console, output: Path | None, errors: Path | None
) -> None:
    """Follow a batch and fetch its files; exit with 1 unless the batch completed and a line succeeded."""
    try:
        batch = follow(client, batch, console)
    except KeyboardInterrupt:
        batch_id = batch["id"]
        console.print("The batch goes on.")
        console.print(f"Watch it: wylon show {batch_id} --wait", soft_wrap=True)
        console.print(f"End it: wylon cancel {batch_id}", soft_wrap=True)
        raise click.exceptions.Exit(1) from None
    _fetch(client, batch.get("output_file_id"), output, "output", console)
    _fetch(client, batch.get("error_file_id"), errors, "error", console)
    for error in ((batch.get("errors") or {}).get("data") or [])[:10]:
        where = f"line {error['line']}: " if error.get("line") else ""
        console.print(f"{where}{error['message']}", markup=False, soft_wrap=True)
    _tell_failures(client, batch, console)
    if batch["status"] != "completed":
        console.print(f"{batch['id']} {batch['status']}", markup=False)
        raise click.exceptions.Exit(1)
    if not batch["request_counts"]["completed"]:
        raise click.exceptions.Exit(1)


def _tell_failures(client: ApiClient, batch: dict[str, Any], console: Console) -> None:
    """Print how many lines failed, and the most frequent error."""
    counts, error_file_id = batch["request_counts"], batch.get("error_file_id")
    if not counts["failed"] or error_file_id is None:
        return
    failed, total = counts["failed"], counts["total"]
    lines = f"All {total:,} lines" if failed == total else f"{failed:,} of {total:,} lines"
    try:
        found = most_frequent_error(client.lines(error_file_id))
    except ApiError as fault:
        console.print(f"{lines} failed; the error file can't be read: {fault.message}", markup=False, soft_wrap=True)
        return
    if found is not None:
        reason, count = found
        console.print(f"{lines} failed; the most frequent error, {count:,} times:", markup=False, soft_wrap=True)
        console.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)


def _fetch(client: ApiClient, file_id: str | None, path: Path | None, name: str, console: Console) -> None:
    if path is None:
        return
    if file_id is None:
        console.print(f"There is no {name} file: no line is for it.")
        return
    try:
        client.download(file_id, path)
    except OSError as fault:
        raise click.ClickException(f"Can't write {path}: {fault.strerror}.") from None
    console.print(f"{name} file: {path}", markup=False, soft_wrap=True)


def _look(client: ApiClient, batch_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + _GIVE_UP_AFTER_S
    while True:
        try:
            return client.batch(batch_id)
        except ApiAway:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_EVERY_S)
