"""The list of faults."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch

from tests.chaos.scene import Scene

EVERYTHING = "*"
BOTH = frozenset({"sqlite", "postgresql"})


class Recovery(StrEnum):
    """From when to when a fault's recovery is measured."""

    # From a kill to the second call of each line that was open.
    LINES = "lines"
    # From the fault's end to the next answered line.
    PROGRESS = "progress"
    # From the fault to the next recorded result.
    RESULT = "result"


@dataclass(frozen=True)
class Fault:
    """Something that happens to a house; `throw` returns when it is over."""

    name: str
    throw: Callable[[Scene], None]
    databases: frozenset[str] = BOTH
    recovery: Recovery = Recovery.RESULT
    # Done before the batches are there.
    prepare: Callable[[Scene], None] | None = None
    # Whether it makes sense beside another.
    is_pairable: bool = True
    # Only when asked for by name: the product has no answer to it yet.
    is_asked_for: bool = False

    def fits(self, database: str, patterns: str) -> bool:
        """Return whether it may happen to this database and is one of those asked for, with commas between."""
        if self.is_asked_for and patterns == EVERYTHING:
            return False
        return database in self.databases and any(fnmatch(self.name, pattern) for pattern in patterns.split(","))


FAULTS: list[Fault] = []


def fault(name: str, **options: object) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Enter the function in the list under this name."""

    def enter(throw: Callable[[Scene], None]) -> Callable[[Scene], None]:
        FAULTS.append(Fault(name, throw, **options))  # type: ignore[arg-type]
        return throw

    return enter
