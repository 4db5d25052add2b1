"""Every error that crosses a layer.

WylonError
├── Refused            the caller can mend the request: shown to the caller, with the parameter's name
│   ├── InvalidRequest     400
│   ├── NotAuthorized      401
│   ├── NotFound           404
│   ├── Conflict           409 (not worth an unchanged retry)
│   └── TooLarge           413
├── StateConflict      an event came in a status that refuses the event: another process was first
├── KeyTaken           an earlier request stored an object with this Idempotency-Key: that object is the answer
├── LineInvalid        a line of an input file is no valid request
├── StorageFull        no room for the bytes: 507
├── BlobMissing        bytes of a file are missing
├── Unavailable        a part of the system does not answer: 503, worth a retry
└── SettingInvalid     a setting can't be used; names the variable
"""


class WylonError(Exception):
    """The root of the errors this project raises on purpose."""


class Refused(WylonError):
    """A request that can't be served as it is; `message` says how to mend the request."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(Refused):
    """The request has a missing, wrong or unsupported value."""


class NotAuthorized(Refused):
    """The request carries no API key, or an unknown key."""


class NotFound(Refused):
    """The object does not exist for the tenant."""


class Conflict(Refused):
    """The object is in a state that does not allow the request."""


class TooLarge(Refused):
    """The request is over a stated limit of size."""


class StateConflict(WylonError):
    """An event came to a batch in a status that refuses the event: another process was first."""


class KeyTaken(WylonError):
    """An earlier request stored an object with this Idempotency-Key: the present request stores nothing."""


class LineInvalid(WylonError):
    """A line of an input file is no valid request."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class StorageFull(WylonError):
    """The storage of blobs has no room left: free some room, then send the request again."""


class BlobMissing(WylonError):
    """Bytes of a file are missing."""


class Unavailable(WylonError):
    """A part of the system does not answer right now: try again in a moment."""


class NotWritten(Unavailable):
    """A write was undone, because a part of the system does not answer right now: try again in a moment."""


class SettingInvalid(WylonError):
    """A setting can't be used: the message names the variable and the values that fit."""
