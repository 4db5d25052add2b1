import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, modules, name_of, parse

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "core", "manager", "misc"}
MAX_LINES = 300
ENVIRONMENT_READER = "app/config/"


def test_imports_point_down() -> None:
    linter = Path(sys.executable).parent / "lint-imports"

    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", modules("app", "workers", "tests", "bench"), ids=name_of)
def test_a_module_has_a_name_of_its_own_and_one_idea(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    assert path.parent.name not in BANNED_NAMES
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


def unpacked(node: ast.Dict) -> list[ast.expr]:
    return [value for key, value in zip(node.keys, node.values, strict=True) if key is None]


def environment_reads(tree: ast.Module) -> list[int]:
    names = {"environ", "environb", "getenv", "getenvb"}
    # `{**os.environ, …}` is what children are started with: it is handed on whole.
    handed_on = {value for node in ast.walk(tree) if isinstance(node, ast.Dict) for value in unpacked(node)}
    reads = []
    for node in set(ast.walk(tree)) - handed_on:
        is_attribute = isinstance(node, ast.Attribute) and node.attr in names
        is_import = isinstance(node, ast.ImportFrom) and node.module == "os" and names & {a.name for a in node.names}
        if (is_attribute and isinstance(node.value, ast.Name) and node.value.id == "os") or is_import:
            reads.append(node.lineno)
    return reads


def test_the_environment_is_read_in_one_module() -> None:
    readers = {name_of(path): environment_reads(parse(path)) for path in modules("app", "workers")}

    assert {name: lines for name, lines in readers.items() if lines and not name.startswith(ENVIRONMENT_READER)} == {}


@pytest.mark.parametrize("code", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"])
def test_the_scan_sees_every_way_to_read_the_environment(code: str) -> None:
    assert environment_reads(ast.parse(code))


def test_domain_and_services_take_the_time_from_a_clock() -> None:
    banned = {"time", "datetime", "os", "random"}
    importers = {
        name_of(path): imported & banned
        for path in modules("app/domain")
        for imported in [
            {alias.name for node in ast.walk(parse(path)) if isinstance(node, ast.Import) for alias in node.names}
            | {node.module for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom) and node.module}
        ]
    }

    assert {name: found for name, found in importers.items() if found} == {}
