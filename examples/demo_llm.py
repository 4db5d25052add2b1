"""A dozen questions through wylon to a real language model on the CPU: `make demo-llm`."""

import json
import sys
import tempfile
from pathlib import Path

from batch_run import run_batch, save
from openai import OpenAI
from processes import running, wylon
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent


def main() -> None:
    """Run the demo and print each answer beside its question."""
    console = Console()
    demos = HERE.parent / "demo-data"
    demos.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="llm-", dir=demos))
    console.print("Starting a language model and wylon …")
    with running(
        "The model server", [sys.executable, str(HERE / "model_server.py")], folder / "model.log"
    ) as model_url:
        up = wylon("up", "--port", "0", "--data", str(folder / "data"), "--upstream", model_url)
        with running("wylon up", up, folder / "up.log") as base_url:
            key = (folder / "data" / "api-key").read_text().strip()
            client = OpenAI(base_url=base_url, api_key=key)
            batch = run_batch(client, HERE / "questions.jsonl", console)
            answers = save(client, batch.output_file_id, folder / "output.jsonl")
    _print_answers(console, HERE / "questions.jsonl", answers)
    console.print(f"The answers are in {folder / 'output.jsonl'}", highlight=False, soft_wrap=True)
    if not answers:
        sys.exit("The model answered nothing.")


def _print_answers(console: Console, questions: Path, answers: list[str]) -> None:
    said = {}
    for line in map(json.loads, answers):
        said[line["custom_id"]] = line["response"]["body"]["choices"][0]["message"]["content"].strip()
    table = Table("question", "answer", show_lines=True)
    for line in map(json.loads, questions.read_text().splitlines()):
        table.add_row(line["body"]["messages"][0]["content"], said.get(line["custom_id"], "–"))
    console.print(table, markup=False)


if __name__ == "__main__":
    main()
