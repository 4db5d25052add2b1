"""A few hundred requests through wylon and a stand-in model, start to end: `make demo`."""

import tempfile
from pathlib import Path

from batch_run import run_batch, save
from openai import OpenAI
from processes import running, wylon
from rich.console import Console

HERE = Path(__file__).parent
SHOWN_LINES = 3


def main() -> None:
    """Run the demo; what it wrote stays in a folder of its own."""
    console = Console()
    folder = _new_folder()
    # Slow enough to watch: a real model takes longer.
    stand_in = wylon("upstream", "--port", "0", "--latency-ms", "200", "--jitter-ms", "200")
    console.print("Starting a stand-in model and wylon …")
    with running("wylon upstream", stand_in, folder / "upstream.log") as upstream_url:
        up = wylon("up", "--port", "0", "--data", str(folder / "data"), "--upstream", upstream_url)
        # Lines that fail at every try are given up sooner than they would be: the demo is short.
        with running("wylon up", up, folder / "up.log", WYLON_MAX_TRIES="3") as base_url:
            # This is all that an OpenAI client needs to be told.
            key = (folder / "data" / "api-key").read_text().strip()
            client = OpenAI(base_url=base_url, api_key=key)
            batch = run_batch(client, HERE / "requests.jsonl", console)
            _show(
                console, "Answers", save(client, batch.output_file_id, folder / "output.jsonl"), folder / "output.jsonl"
            )
            errors = save(client, batch.error_file_id, folder / "errors.jsonl")
            _show(console, "Lines that fail on purpose", errors, folder / "errors.jsonl")
            console.print("\nStopping …")
    console.print("Done; nothing is left running.")


def _new_folder() -> Path:
    demos = HERE.parent / "demo-data"
    demos.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=demos))


def _show(console: Console, title: str, lines: list[str], path: Path) -> None:
    console.print(f"\n[bold]{title}[/bold]: {len(lines)} lines in {path}", highlight=False, soft_wrap=True)
    for line in lines[:SHOWN_LINES]:
        console.print(f"  {line}", markup=False, highlight=False, overflow="ellipsis", no_wrap=True)


if __name__ == "__main__":
    main()
