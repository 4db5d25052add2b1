"""What goes wrong between a call and its answer.

    CallFault
    ├─ CannotConnect         no connection came about: name, refusal, TLS
    │  └─ ConnectTimedOut
    ├─ ServerDisconnected    a connection ended before the answer's headers did
    │  └─ NothingHeard       it ended before the first byte of the answer
    ├─ HostGone              its host acknowledges nothing any more
    ├─ AnswerCutOff          it ended amid the answer's body
    ├─ AnswerGarbled         what came is not HTTP, or not packed as it says
    └─ Withheld              the request was not sent: the line is not to be called for any more

A call whose time is up is a TimeoutError; FellSilent where it is the time without a byte.
"""


class CallFault(Exception):
    """A call that came to no answer."""


class CannotConnect(CallFault):
    """No connection to the upstream came about; no line can help that."""


class ConnectTimedOut(CannotConnect):
    """No connection came about in the time for it."""


class ServerDisconnected(CallFault):
    """The connection ended before the headers of the answer did."""


class NothingHeard(ServerDisconnected):
    """The connection ended before the first byte of an answer."""


class HostGone(CallFault):
    """The host of the server acknowledges nothing any more: it is off, or cut from the network."""


class AnswerCutOff(CallFault):
    """The connection ended amid the body of the answer."""


class AnswerGarbled(CallFault):
    """What came is not HTTP, or its body is not packed as its headers say."""


class FellSilent(TimeoutError):
    """The server said nothing for longer than it may."""


class Withheld(CallFault):
    """The request was not sent, as its line is not to be called for any more."""
