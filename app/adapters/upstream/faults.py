"""The faults between a call and the answer.

    CallFault
    ├─ CannotConnect         no connection came about: name, refusal, TLS
    │  └─ ConnectTimedOut
    ├─ ServerDisconnected    the connection ended before the end of the answer's headers
    │  └─ NothingHeard       the connection ended before the first byte of the answer
    ├─ HostGone              the server's host acknowledges nothing any more
    ├─ AnswerCutOff          the connection ended amid the answer's body
    ├─ AnswerGarbled         the answer is not HTTP, or not packed as the headers say
    └─ Withheld              the request was not sent: the line must not be called any more

A call past the deadline raises a TimeoutError; FellSilent after too long without a byte.
"""


class CallFault(Exception):
    """A call that came to no answer."""


class CannotConnect(CallFault):
    """No connection to the upstream came about; a line is never the cause."""


class ConnectTimedOut(CannotConnect):
    """No connection came about within the connect timeout."""


class ServerDisconnected(CallFault):
    """The connection ended before the headers of the answer did."""


class NothingHeard(ServerDisconnected):
    """The connection ended before the first byte of an answer."""


class HostGone(CallFault):
    """The server's host acknowledges nothing any more: the host is off, or cut from the network."""


class AnswerCutOff(CallFault):
    """The connection ended amid the body of the answer."""


class AnswerGarbled(CallFault):
    """The answer is not HTTP, or the body is not packed as the headers say."""


class FellSilent(TimeoutError):
    """The server was silent for longer than allowed."""


class Withheld(CallFault):
    """The request was not sent, because the line must not be called any more."""
