"""The table of what can be wrong with an upstream, and the deployment that the tests run it on.

`docs/operating.md` has the same rows in words. The tries are those of `MAX_TRIES`.
"""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from app.config import load_settings
from app.services.batches import BatchService
from tests.integration.pipeline import Pipeline, request_line

MAX_TRIES = 3
CONCURRENCY = 16
SILENCE_S = 1
CONNECT_S = 1
# More than `slow` takes.
CALL_S = 4
# Long enough for all healthy lines of a batch on a busy machine.
WINDOW_S = 14
WINDOW = f"{WINDOW_S}s"
DAY = "24h"
# Until its batch's window ends.
EVER = None
# Calls of a line before it is known that the fault is the line's. Each doubles the jitter of the next pause.
UNJUDGED = 4
MOST_JITTER_S = 0.5 * 2 ** (1 + UNJUDGED)

EXPIRED = "could not be executed before the completion window expired"


class Record(NamedTuple):
    """What the line of the output file, or of the error file, says."""

    is_answered: bool
    status: int | None = 200
    code: str | None = None
    # A piece of the message.
    says: str = ""


ANSWERED = Record(True)
OUT_OF_TIME = Record(False, None, "batch_expired", EXPIRED)
TIMED_OUT = Record(False, None, "request_timeout", "the limit that WYLON_FIRST_BYTE_TIMEOUT_S sets")
TOOK_TOO_LONG = Record(False, None, "request_timeout", "the limit that WYLON_CALL_TIMEOUT_S sets")


class Fault(NamedTuple):
    """A fault that the mark of a line brings on that line."""

    name: str
    # As in `[[fail:…]]`.
    mark: str
    # What each line with it is called for, EVER for again and again.
    calls: int | None
    record: Record
    # Whether the request may go out once more within a call, where its connection was a kept one.
    may_be_resent: bool = False
    # The shortest and the longest pause before a call is made again; by jitter alone where left out.
    pauses_s: tuple[float, float] = (0.0, 60.0)

    @property
    def is_for_ever(self) -> bool:
        """Whether the window's end alone ends the tries."""
        return self.record is OUT_OF_TIME

    @property
    def content(self) -> str:
        return f"[[fail:{self.mark}]]"


def broken(code: str, says: str) -> Record:
    return Record(False, None, code, says)


# Those that last longest come first: their windows elapse while the others run.
FAULTS = [
    Fault("503 until the window ends", "503-none", EVER, OUT_OF_TIME),
    Fault("429 with a Retry-After past the window", "429-300", 1, OUT_OF_TIME, pauses_s=(300.0, 300.0 + MOST_JITTER_S)),
    Fault("a drip that takes longer than a call may", "drip", 1, TOOK_TOO_LONG),
    Fault("a hang after accept", "hang", 1, TIMED_OUT),
    Fault("a hang after accept, once", "hangx1", 1, TIMED_OUT),
    Fault("a hang amid the body", "stall", 1, TIMED_OUT),
    Fault("a reset", "reset", MAX_TRIES, broken("connection_failed", "The connection to the upstream broke"), True),
    Fault("a reset, twice", "resetx2", 3, ANSWERED, True),
    Fault("keep-alive closed under the request", "closex1", 2, ANSWERED, True),
    Fault("closed under every request", "close", MAX_TRIES, broken("connection_failed", "before it answered"), True),
    Fault("429 without Retry-After", "429-nonex3", 4, ANSWERED),
    Fault("429 with Retry-After in seconds", "429-2x1", 2, ANSWERED, pauses_s=(2.0, 3.0)),
    Fault("429 with Retry-After as a date", "429-datex1", 2, ANSWERED, pauses_s=(0.5, 3.0)),
    # More than a day is taken for none: only the jitter of a first pause is left.
    Fault("429 with an absurd Retry-After", "429-99999999999x1", 2, ANSWERED, pauses_s=(0.0, 1.0)),
    Fault("503 with Retry-After in seconds", "503-2x1", 2, ANSWERED, pauses_s=(2.0, 3.0)),
    Fault("502 more often than a line has tries", "502x3", 4, ANSWERED),
    Fault("503 more often than a line has tries", "503-nonex3", 4, ANSWERED),
    Fault("504 more often than a line has tries", "504x3", 4, ANSWERED),
    Fault("529 more often than a line has tries", "529x3", 4, ANSWERED),
    Fault("500 twice", "500x2", 3, ANSWERED),
    Fault("500 each time", "500", MAX_TRIES, Record(False, 500, None, "The server had an error")),
    Fault("200 with HTML", "html", MAX_TRIES, broken("invalid_response", "text/html; charset=utf-8")),
    Fault("200 with cut JSON", "half", MAX_TRIES, broken("invalid_response", "not a JSON object or list")),
    Fault("200 with null", "null", MAX_TRIES, broken("invalid_response", "application/json): null")),
    Fault("a body that ends early", "cut", MAX_TRIES, broken("invalid_response", "cut off")),
    Fault("200 with 100 MiB", "huge", 1, broken("response_too_large", "larger than")),
    Fault("200 with 100 MiB that it does not announce", "flood", 1, broken("response_too_large", "larger than")),
    Fault("a slow drip", "slow", 1, ANSWERED),
    Fault("a redirect", "redirect", 1, Record(False, 307, None, "/elsewhere")),
    Fault("400", "400", 1, Record(False, 400, None, "failed on purpose")),
]


class ServerFault(NamedTuple):
    """A fault of the whole server, which no line gets past; its lines are called until their window ends.

    `name` says what it is, `says` is a piece of what the log says of each call.
    """

    name: str
    says: str


REFUSES = ServerFault("a server that refuses connections", "No connection to the upstream: ConnectionRefusedError")
FULL = ServerFault("a server that takes no connection", f"No connection to the upstream within {CONNECT_S} s")
UNTRUSTED = ServerFault("a certificate that nobody trusts", "certificate verify failed")
NO_TLS = ServerFault("no TLS where it is expected", "No connection to the upstream: SSLError")
SERVER_FAULTS = [REFUSES, FULL, UNTRUSTED, NO_TLS]


def record_of(line: dict[str, Any], *, is_answered: bool) -> Record:
    """Return what a line of the output file (`is_answered`) or of the error file says."""
    response, error = line["response"], line["error"]
    if response is None:
        return Record(is_answered, None, error["code"], error["message"])
    problem = response["body"].get("error")
    return Record(is_answered, response["status_code"], None, problem["message"] if problem else "")


def healthy_lines(count: int) -> list[bytes]:
    """Return lines that take some time and work."""
    return [request_line(f"healthy-{number}", f"[[sleep:100]] {number}") for number in range(count)]


def faulty_lines(fault: Fault, count: int) -> list[bytes]:
    return [request_line(f"faulty-{number}", f"{fault.content} {number}") for number in range(count)]


class FaultyPipeline(Pipeline):
    """A deployment with one worker, which soon gives up waiting."""

    def __init__(self, **settings: object) -> None:
        super().__init__(None)
        self.set_up(
            CONCURRENCY=CONCURRENCY,
            MAX_TRIES=MAX_TRIES,
            CONNECT_TIMEOUT_S=CONNECT_S,
            FIRST_BYTE_TIMEOUT_S=SILENCE_S,
            CALL_TIMEOUT_S=CALL_S,
            COMPLETION_WINDOWS=f"{DAY},{WINDOW}",
            **settings,
        )

    def set_up(self, **settings: object) -> None:
        """Give other settings to the processes that are started from now on, and to the creation of batches."""
        if "UPSTREAM_URL" in settings:
            # In the place of what the file says.
            settings["CONFIG"] = ""
        self._environ |= {f"WYLON_{name}": str(value) for name, value in settings.items()}
        self.settings = load_settings(self._environ)
        stores = self.stores
        self.batches = BatchService(
            stores.batches,
            stores.files,
            self.queue,
            stores.clock,
            stores.idempotency,
            endpoints=self.settings.endpoints,
            windows=self.settings.completion_windows,
        )

    def trust(self, certificate: Path) -> None:
        """Let processes that are started from now on take this certificate, and no others, for good."""
        self._environ["SSL_CERT_FILE"] = str(certificate)

    def away(self, worker: str) -> list[dict[str, str]]:
        """Return what the worker logged of servers that are away."""
        return [_fields(line) for line in self.processes[worker].said().splitlines() if "event=upstream.away" in line]

    def retries(self, worker: str, batch_id: str) -> list[dict[str, str]]:
        """Return what the worker logged of each call of the batch that it will make again."""
        lines = self.processes[worker].said().splitlines()
        return [_fields(line) for line in lines if "event=line.retried" in line and f"batch_id={batch_id}" in line]


def _fields(line: str) -> dict[str, str]:
    return dict(field.split("=", 1) for field in shlex.split(line) if "=" in field)
