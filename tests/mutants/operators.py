"""The small faults that are put into a module, one at a time: each is an edit of a few bytes of its source."""

import ast
from typing import NamedTuple

_OTHER = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
# Calls that take conditions: each of these has to hold.
_CONDITIONS = frozenset({"where", "and_", "filter", "having"})
# Parts of a query that only say which rows, in which order, and who waits for them.
_PARTS = frozenset({"where", "with_for_update", "order_by", "limit"})


class Mutant(NamedTuple):
    """One edit of a module; `kind` says which fault it is, `statement` the line in which its statement begins."""

    file: str
    line: int
    statement: int
    kind: str
    start: int
    end: int
    new: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]

    def shown(self, source: bytes) -> str:
        """Return the edit as one short line."""
        old = " ".join(source[self.start : self.end].decode().split())
        return f"{self.file}:{self.line} {self.kind}: {old[:90]} → {' '.join(self.new.split())[:90] or 'nothing'}"


class Mutants(ast.NodeVisitor):
    """Gathers every edit of a module that the operators know."""

    def __init__(self, file: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._file, self._source = file, source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._statement = 1
        self.visit(ast.parse(source))

    def visit(self, node: ast.AST) -> None:
        if not isinstance(node, ast.stmt):
            super().visit(node)
            return
        outer, self._statement = self._statement, node.lineno
        super().visit(node)
        self._statement = outer

    def generic_visit(self, node: ast.AST) -> None:
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list):
                self._look_at_statements(body, node)
        super().generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self._look_at_test(node)

    def visit_While(self, node: ast.While) -> None:
        self._look_at_test(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._look_at_test(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._edit("condition holds always", test, "True")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = "and" if isinstance(node.op, ast.And) else "or"
        other = "or" if word == "and" else "and"
        texts = [f"({self._text(value)})" for value in node.values]
        self._edit(f"{word} becomes {other}", node, f" {other} ".join(texts), in_brackets=True)
        for number in range(len(texts)):
            rest = texts[:number] + texts[number + 1 :]
            self._edit("a part of a condition goes", node, f" {word} ".join(rest), in_brackets=True)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        left, operator, right = node.left, node.ops[0], node.comparators[0]
        if type(operator) in _OTHER and len(node.ops) == 1:
            new = f"{self._text(left)} {_OTHER[type(operator)]} {self._text(right)}"
            self._edit("another comparison", node, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._edit("a not goes", node, self._text(node.operand), in_brackets=True)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _CONDITIONS and len(node.args) > 1:
            for argument in node.args:
                rest = [self._text(other) for other in node.args if other is not argument]
                self._edit("a condition of a query goes", node, f"{self._text(node.func)}({', '.join(rest)})")
        if name in _PARTS and isinstance(node.func, ast.Attribute):
            self._edit("a part of a query goes", node, self._text(node.func.value))
        for keyword in node.keywords:
            self._look_at_constant(keyword.value)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for value in node.values:
            self._look_at_constant(value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def _look_at_test(self, node: ast.If | ast.While | ast.IfExp) -> None:
        test = node.test
        if not isinstance(test, ast.Compare):
            self._edit("condition turned round", test, f"not ({self._text(test)})")
        self._edit("condition holds never", test, "False")
        self.generic_visit(node)

    def _look_at_statements(self, body: list[ast.stmt], owner: ast.AST) -> None:
        is_module, is_function = (
            isinstance(owner, ast.Module),
            isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef),
        )
        is_constructor = isinstance(owner, ast.FunctionDef) and owner.name in ("__init__", "__post_init__")
        for before, statement in zip([None, *body], body, strict=False):
            if isinstance(statement, ast.Assign) and is_module:
                self._statement = statement.lineno
                self._look_at_constant(statement.value)
            # Whoever calls a function notices that it returns nothing; whoever reads an attribute, that there is none.
            is_noticed = is_constructor and isinstance(statement, ast.Assign)
            is_noticed = is_noticed or (is_function and isinstance(statement, ast.Return))
            if is_module or is_noticed or not self._is_removable(statement):
                continue
            self._edit("a statement goes", statement, "pass")
            are_calls = any(isinstance(each, ast.Expr) for each in (before, statement))
            if before is not None and self._is_removable(before) and are_calls:
                both = f"{self._text(statement)}\n{' ' * statement.col_offset}{self._text(before)}"
                self._edit("two statements change places", statement, both, begins_at=before)

    def _is_removable(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Expr):
            return isinstance(statement.value, ast.Call | ast.Await) and not self._text(statement).startswith("log.")
        if isinstance(statement, ast.Assign):
            return isinstance(statement.targets[0], ast.Attribute | ast.Subscript)
        return isinstance(statement, ast.Raise | ast.Return | ast.AugAssign | ast.Delete | ast.Break | ast.Continue)

    def _look_at_constant(self, value: ast.expr) -> None:
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            self._edit("the other of two", value, str(not value.value))
        elif isinstance(value, ast.Constant) and isinstance(value.value, int | float):
            self._edit("a number becomes 0", value, "0")
            self._edit("a number times 1000", value, f"{self._text(value)} * 1000")

    def _text(self, node: ast.AST) -> str:
        return self._source[slice(*self._place(node))].decode()

    def _place(self, node: ast.AST) -> tuple[int, int]:
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end

    def _edit(
        self, kind: str, node: ast.AST, new: str, *, in_brackets: bool = False, begins_at: ast.stmt | None = None
    ) -> None:
        start, end = self._place(node)
        mutant = Mutant(
            self._file,
            node.lineno,  # type: ignore[attr-defined]
            node.lineno if isinstance(node, ast.stmt) else self._statement,
            kind,
            start if begins_at is None else self._place(begins_at)[0],
            end,
            f"({new})" if in_brackets else new,
        )
        try:
            ast.parse(mutant.apply(self._source))
        except SyntaxError:
            return
        self.found.append(mutant)
