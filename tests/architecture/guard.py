"""One guard, and what shows that it is needed."""

from typing import NamedTuple


class Guard(NamedTuple):
    """A few characters that keep two processes from spoiling each other's work; `without` is the code without them."""

    name: str
    file: str
    text: str
    without: str
    test: str
