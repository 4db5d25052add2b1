"""Faults in the stand-in's answers, and how a setting or a request asks for a fault.

A fault is `KIND` or `KINDxN`: an HTTP status from 400 to 599, or a kind of `KINDS`; with `xN` the fault happens only
the first N times to a body. A status may carry a Retry-After: `429-5` has `Retry-After: 5`, `429-date` names a moment
two seconds away, `429-none` has no Retry-After. `--fail 500:0.1` brings a fault on a tenth of the bodies, chosen by
hash. `[[fail:500x2]]` in a body brings a fault on the body, and `[[sleep:2000]]` delays the answer by 2,000 ms.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

# The kinds of faults without an HTTP status, and the effect of each.
KINDS = {
    "down": "drops every connection and refuses new ones for two seconds",
    "hang": "never answers",
    "stall": "sends half of the answer, then nothing more",
    "reset": "closes the connection with a reset, without an answer",
    "close": "closes the connection politely, without an answer",
    "cut": "sends half of the body, then closes the connection",
    "half": "answers 200 with half of the JSON as if that were all",
    "html": "answers 200 with a page of HTML",
    "null": "answers 200 with null",
    "redirect": "answers 307 and points elsewhere",
    "slow": "sends the answer in ten pieces over two seconds",
    "drip": "sends a byte of the answer every 0.2 s",
    "huge": "answers 200 with 100 MiB of JSON",
    "flood": "the same in chunks, without saying how much it is",
}
_FAULT = re.compile(
    r"(?:(?P<kind>[a-z]+)|(?P<status>[45]\d\d)(?:-(?P<later>none|date|\d{1,12}))?)(?:x(?P<times>[1-9]\d{0,8}))?"
)
_MARKS = re.compile(rb"\[\[(fail|sleep):([a-z0-9-]+)\]\]")
MARK = b"[["


class Fault(NamedTuple):
    """A fault that happens `times` times to a body; with None, always.

    `later` is the Retry-After of a status: seconds, `date`, `none`, or None for the default.
    """

    kind: str
    times: int | None = None
    later: str | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status, or None for a kind of `KINDS`."""
        return int(self.kind) if self.kind.isdecimal() else None

    def __str__(self) -> str:
        later = f"-{self.later}" if self.later else ""
        return f"{self.kind}{later}{f'x{self.times}' if self.times else ''}"


class Share(NamedTuple):
    """A fault, and the share of bodies with the fault."""

    fault: Fault
    share: float


def parse_fault(text: str) -> Fault:
    """Parse `KIND` or `KINDxN`; ValueError lists the valid kinds."""
    match = _FAULT.fullmatch(text)
    if match is None or not (match["status"] or match["kind"] in KINDS):
        raise ValueError(f"{text!r} is no fault: give a status from 400 to 599 or one of {', '.join(KINDS)}")
    return Fault(match["status"] or match["kind"], int(match["times"]) if match["times"] else None, match["later"])


def parse_share(text: str) -> Share:
    """Parse `FAULT:SHARE`, for example `500:0.1`; a fault without a share happens to every body."""
    fault, colon, share = text.partition(":")
    try:
        value = float(share) if colon else 1.0
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{share!r} is no share: give a number from 0 to 1, as in 500:0.1")
    return Share(parse_fault(fault), value)


class FaultPlan:
    """Decides whether a body gets a fault, and how much to delay the answer."""

    def __init__(self, shares: Sequence[Share] = ()) -> None:
        if sum(share.share for share in shares) > 1.0 + 1e-9:
            raise ValueError("the shares of all faults add up to more than 1")
        self._shares = tuple(shares)
        self._happened: Counter[tuple[bytes, Fault]] = Counter()
        # Requests per planned fault, including requests after the fault's `times` were used up; "sleep" counts delays.
        self.asked: Counter[str] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether only bodies with a mark get a fault."""
        return not self._shares

    def pick(self, body: bytes) -> tuple[Fault | None, float]:
        """Return the fault for the body, or None, and the seconds to delay the answer."""
        fault, sleep_s = _marked(body) if MARK in body else (None, 0.0)
        if sleep_s:
            self.asked["sleep"] += 1
        if fault is None and self._shares:
            fault = self._shared(body)
        if fault is not None:
            self.asked[str(fault)] += 1
            if fault.times is not None and not self._may_happen(body, fault, fault.times):
                fault = None
        return fault, sleep_s

    def forget(self) -> None:
        """Reset the counts of planned and happened faults."""
        self._happened.clear()
        self.asked.clear()

    def _shared(self, body: bytes) -> Fault | None:
        point = int.from_bytes(_digest(body), "big") / 2**64
        for fault, share in self._shares:
            if point < share:
                return fault
            point -= share
        return None

    def _may_happen(self, body: bytes, fault: Fault, times: int) -> bool:
        key = (_digest(body), fault)
        self._happened[key] += 1
        return self._happened[key] <= times


def _marked(body: bytes) -> tuple[Fault | None, float]:
    fault, sleep_s = None, 0.0
    for name, value in _MARKS.findall(body):
        if name == b"sleep" and value.isdigit():
            sleep_s = int(value) / 1000
        elif name == b"fail":
            try:
                fault = parse_fault(value.decode())
            except ValueError:
                # A prompt may hold any text: a mark without a known fault is text too.
                continue
    return fault, sleep_s


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest()
