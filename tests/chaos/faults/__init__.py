"""What may happen to a house: each fault a few lines, entered in one list."""

from tests.chaos.faults import broker, callers, clocks, database, messages, processes, storage
from tests.chaos.faults.registry import EVERYTHING, FAULTS, Fault, Recovery

__all__ = [
    "EVERYTHING",
    "FAULTS",
    "Fault",
    "Recovery",
    "broker",
    "callers",
    "clocks",
    "database",
    "messages",
    "processes",
    "storage",
]
