import ast
import re

import pytest

from app.domain.lifecycle import TRANSITIONS
from tests.architecture.source import ROOT, called_name, calls, modules, name_of, parse

ONLY_WRITER = ("app/adapters/db/moves.py", "_move_statement")
_ROW = re.compile(r"\| (\w+) \| (\w+) \| (\w+) \|")
_RAW_UPDATE = re.compile(r"\bset\b.*\bstatus\s*=", re.IGNORECASE | re.DOTALL)


def test_the_table_in_the_documentation_is_the_table_in_the_code() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text("utf-8").partition("## Every move")[2].partition("\n## ")[0]

    rows = _ROW.findall(text)[1:]

    assert rows == [(status, event, target) for (status, event), target in TRANSITIONS.items()]


def test_the_drawing_in_the_documentation_is_the_drawing_in_the_code() -> None:
    drawn = (ast.get_docstring(parse(ROOT / "app" / "domain" / "lifecycle.py"), clean=False) or "").split("\n\n")[1]

    assert drawn in (ROOT / "docs" / "lifecycle.md").read_text("utf-8")


def has_status(node: ast.AST) -> bool:
    if isinstance(node, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "status" for key in node.keys)
    return isinstance(node, ast.keyword) and node.arg == "status"


def is_write(node: ast.AST) -> bool:
    """Return whether the node changes the status of a row, or of a batch that is in memory."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "update" in node.value.lower() and bool(_RAW_UPDATE.search(node.value))
    if not isinstance(node, ast.Call) or called_name(node) not in {"values", "replace"}:
        return False
    return any(has_status(part) for argument in (*node.args, *node.keywords) for part in ast.walk(argument))


def writers(tree: ast.Module) -> list[str]:
    """Return the names of the functions that write a status; `<module>` for code outside of any."""
    inside = {
        node: function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    return [inside.get(node, "<module>") for node in ast.walk(tree) if is_write(node)]


def test_the_status_is_written_by_one_function() -> None:
    found = {(name_of(path), writer) for path in modules("app", "workers") for writer in writers(parse(path))}

    assert found == {ONLY_WRITER}


@pytest.mark.parametrize(
    "code",
    [
        "update(batches).values(status='failed')",
        "update(batches).values({**more, 'status': 'failed'})",
        "replace(batch, status=Status.FAILED)",
        "connection.execute(text('UPDATE batches SET status = 1'))",
    ],
)
def test_the_scan_sees_every_way_to_write_a_status(code: str) -> None:
    assert writers(ast.parse(code)) == ["<module>"]


def test_the_move_is_guarded_by_the_status_it_was_read_in() -> None:
    tree = parse(ROOT / ONLY_WRITER[0])
    move = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == ONLY_WRITER[1])
    guards = [ast.unparse(argument) for call in calls(move) if called_name(call) == "where" for argument in call.args]

    assert any("status ==" in guard for guard in guards)
