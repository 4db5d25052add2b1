import ast

import pytest

from tests.architecture.guards import GUARDS, Guard
from tests.architecture.source import ROOT, parse

each_guard = pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)


@each_guard
def test_a_guard_is_where_it_is_said_to_be(guard: Guard) -> None:
    code = (ROOT / guard.file).read_text("utf-8")

    assert code.count(guard.text) == 1
    ast.parse(code.replace(guard.text, guard.without))


@each_guard
def test_the_test_that_is_named_for_a_guard_exists(guard: Guard) -> None:
    path, _, test = guard.test.partition("::")

    functions = [node.name for node in parse(ROOT / path).body if isinstance(node, ast.FunctionDef)]

    assert test.partition("[")[0] in functions
