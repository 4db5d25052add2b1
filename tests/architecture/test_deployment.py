import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from app.adapters import queue
from app.config import PREFIX, VARIABLES, load_settings
from app.config.upstreams import KEYS
from tests.architecture.source import ROOT

_TREE_LINE = re.compile(r"^( *)([\w.-]+(?:/[\w.-]+)*/?)(?:\s|$)")


@cache
def celery_names() -> tuple[set[str], set[str]]:
    """Return the names of the tasks that workers register, and of those that beat sends."""
    # In a process of its own: the application reads the environment and sets the logs up as it is imported.
    code = (
        "import json; from workers.celery_app import app; app.loader.import_default_modules(); "
        "print(json.dumps([list(app.tasks), [entry['task'] for entry in app.conf.beat_schedule.values()]]))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    registered, scheduled = json.loads(run.stdout)
    return set(registered), set(scheduled)


def sent_names() -> set[str]:
    words = {value for name, value in vars(queue).items() if name.isupper() and isinstance(value, str)}
    return {word for word in words if "." in word and " " not in word}


def processes() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text("utf-8").splitlines()
    return {name.strip(): command for name, _, command in (line.partition(":") for line in lines if ":" in line)}


def test_every_task_that_is_sent_is_registered() -> None:
    registered, scheduled = celery_names()

    assert sent_names()
    assert sent_names() | scheduled <= registered


def test_every_task_that_is_registered_is_sent() -> None:
    registered, scheduled = celery_names()
    ours = {name for name in registered if not name.startswith("celery.")}

    assert ours <= sent_names() | scheduled


@pytest.mark.parametrize("queue_name", [queue.TICKS_QUEUE, queue.FILES_QUEUE, queue.LINES_QUEUE])
def test_every_queue_has_a_process_that_consumes_it(queue_name: str) -> None:
    consumed = [match[1].split(",") for text in processes().values() if (match := re.search(r"-Q\s*(\S+)", text))]

    assert queue_name in {name for names in consumed for name in names}


def test_the_procfile_has_every_kind_of_process() -> None:
    assert {"web", "control", "files", "worker", "beat"} <= processes().keys()


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(rf"{PREFIX}[A-Z_]+", (ROOT / "docs" / "settings.md").read_text("utf-8")))

    assert documented == VARIABLES


def test_every_key_of_an_upstream_is_documented_and_in_the_example() -> None:
    section = (
        (ROOT / "docs" / "settings.md").read_text("utf-8").partition("## Several upstreams")[2].partition("\n## ")[0]
    )
    example = (ROOT / "examples" / "wylon.toml").read_text("utf-8")

    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(KEYS)
    assert {key for key in KEYS if not re.search(rf"^(# )?{key} = ", example, re.MULTILINE)} == set()


def test_the_example_of_a_file_can_be_used_with_and_without_what_is_commented_out(tmp_path: Path) -> None:
    example = (ROOT / "examples" / "wylon.toml").read_text("utf-8")
    whole = tmp_path / "wylon.toml"
    whole.write_text(re.sub(r"^# (?=\[|\w+ = )", "", example, flags=re.MULTILINE))

    given = load_settings({"WYLON_CONFIG": str(ROOT / "examples" / "wylon.toml")})
    all_of_it = load_settings({"WYLON_CONFIG": str(whole), "CLOUD_KEY": "key", "AZURE_KEY": "key"})

    assert [spec.name for spec in given.upstreams] == ["gpu", "embedder"]
    assert [spec.name for spec in all_of_it.upstreams] == ["gpu", "embedder", "azure", "cloud"]
    assert all_of_it.routes.idle() == []


def directory_map() -> list[str]:
    """Return the paths in the README's map: a fenced block, one path a line, indented below their folder."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = next((block for block in text.split("```")[1::2] if re.search(r"^ *app/", block, re.MULTILINE)), "")
    paths: list[tuple[int, Path]] = []
    for line in block.splitlines():
        match = _TREE_LINE.match(line)
        if match is None or "/" not in match[2]:
            continue
        indent = len(match[1])
        parent = next((path for depth, path in reversed(paths) if depth < indent), Path())
        paths.append((indent, parent / match[2]))
    return [path.as_posix() for _, path in paths]


def test_the_readmes_directory_map_exists() -> None:
    paths = directory_map()

    assert {"app", "app/domain", "app/services", "app/adapters", "app/api", "app/cli", "workers", "tests"} <= set(paths)
    assert [path for path in paths if not (ROOT / path).exists()] == []
