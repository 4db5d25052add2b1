"""Counts results and tokens of batches by model, in the transaction that records the results."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text

from app.adapters.db.batch_row import USAGE
from app.adapters.db.stored_text import OTHER_MODELS, fit_model
from app.adapters.db.tables import section_models
from app.domain.result import Result

# Lines of further models of a batch are counted together. Transactions at once for several sections of the batch may
# together pass the number.
_MOST_MODELS = 1_000

_C = section_models.c
_IS_GIVEN = _C.batch_id.in_(bindparam("ids", expanding=True))
_NUMBERS = select(_C.batch_id, func.count()).where(_IS_GIVEN).group_by(_C.batch_id)
_KEYS = select(_C.batch_id, _C.upstream, _C.model).where(_IS_GIVEN)
_SUMS = ("completed", "failed", *USAGE)
# The statement fits SQLite and PostgreSQL; SQLAlchemy has no common form for it.
_COUNT = text(f"""
INSERT INTO section_models (batch_id, upstream, model, {", ".join(_SUMS)})
VALUES (:batch_id, :upstream, :model, {", ".join(f":{name}" for name in _SUMS)})
ON CONFLICT (batch_id, upstream, model) DO UPDATE SET
    {", ".join(f"{name} = section_models.{name} + excluded.{name}" for name in _SUMS)}
""")  # noqa: S608 - fixed names

# Batch, upstream and model.
_Key = tuple[str, str, str]


def count_by_model(connection: Connection, recorded: Iterable[tuple[str, str, Sequence[Result]]]) -> None:
    """Add results to the counts of their models, given batch, upstream and new results of each section."""
    sums: dict[_Key, list[int]] = defaultdict(lambda: [0] * len(_SUMS))
    for batch_id, upstream, results in recorded:
        for result in results:
            used, of_model = result.usage, sums[batch_id, upstream, _name(result.model)]
            of_model[0 if result.ok else 1] += 1
            of_model[2] += used.input_tokens
            of_model[3] += used.cached_tokens
            of_model[4] += used.output_tokens
            of_model[5] += used.reasoning_tokens
    rows: list[dict[str, Any]] = [
        {"batch_id": batch_id, "upstream": upstream, "model": model, **dict(zip(_SUMS, of_model, strict=True))}
        for (batch_id, upstream, model), of_model in _fold_surplus(connection, sums).items()
    ]
    connection.execute(_COUNT, rows)


def _name(model: str | None) -> str:
    # Empty for a line that names no model.
    if not model:
        return ""
    name = fit_model(model)
    return OTHER_MODELS if name is None else name


def _fold_surplus(connection: Connection, sums: dict[_Key, list[int]]) -> dict[_Key, list[int]]:
    """Return the sums with the surplus models of each batch together."""
    given = Counter(batch_id for batch_id, *_ in sums)
    known: dict[str, int] = {row[0]: row[1] for row in connection.execute(_NUMBERS, {"ids": list(given)})}
    room = {batch_id: _MOST_MODELS - known.get(batch_id, 0) for batch_id in given}
    full = [batch_id for batch_id, number in given.items() if number > room[batch_id]]
    if not full:
        return sums
    keys = {tuple(row) for row in connection.execute(_KEYS, {"ids": full})}
    folded: dict[_Key, list[int]] = defaultdict(lambda: [0] * len(_SUMS))
    for key, of_model in sums.items():
        batch_id, upstream, _ = key
        counted = key
        if key not in keys:
            room[batch_id] -= 1
            counted = key if room[batch_id] >= 0 else (batch_id, upstream, OTHER_MODELS)
        folded[counted] = [sum(pair) for pair in zip(folded[counted], of_model, strict=True)]
    return folded
