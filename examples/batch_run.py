"""One batch through the official `openai` client: upload, create, watch, download."""

import sys
import time
from pathlib import Path

from openai import OpenAI
from openai.types import Batch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

FINAL_STATUSES = {"completed", "failed", "expired", "cancelled"}


def run_batch(client: OpenAI, requests: Path, console: Console) -> Batch:
    """Submit a file of chat requests and show its progress; ends the program unless the batch completes."""
    with requests.open("rb") as file:
        uploaded = client.files.create(file=file, purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    console.print(f"{batch.id} of {requests}", highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(batch.status, total=None)
        while batch.status not in FINAL_STATUSES:
            time.sleep(0.1)
            batch = client.batches.retrieve(batch.id)
            counts = batch.request_counts
            if counts is not None:
                done = counts.completed + counts.failed
                progress.update(bar, description=batch.status, total=counts.total or None, completed=done)
    if batch.status != "completed":
        sys.exit(f"The batch ended as {batch.status}: {batch.errors}")
    return batch


def save(client: OpenAI, file_id: str | None, path: Path) -> list[str]:
    """Write a file of the batch to `path`; return its lines."""
    if file_id is None:
        return []
    client.files.content(file_id).write_to_file(path)
    return path.read_text().splitlines()
