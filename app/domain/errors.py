"""Every error that crosses a layer.

WylonError
├── Refused            the caller can mend it: shown to them, with the parameter's name
│   ├── InvalidRequest     400
│   ├── NotAuthorized      401
│   ├── NotFound           404
│   ├── Conflict           409 (not worth a retry as it is)
│   └── TooLarge           413
├── StateConflict      an event came in a status that does not take it: somebody else was first
├── KeyTaken           another request stored its object with this Idempotency-Key: that one's is the answer
├── LineInvalid        one line of an input file is no valid request
├── StorageFull        no room for the bytes: 507
├── BlobMissing        the bytes of a file are not where they should be
├── Unavailable        something we need does not answer: 503, worth a retry
└── SettingInvalid     a setting can't be used; names the variable
"""


class WylonError(Exception):
    """The root of the errors this project raises on purpose."""


class Refused(WylonError):
    """A request that can't be served as it is; `message` says what to do instead."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(Refused):
    """The request has a missing, wrong or unsupported value."""


class NotAuthorized(Refused):
    """The request carries no API key, or one that is not known."""


class NotFound(Refused):
    """There is no such object for this tenant."""


class Conflict(Refused):
    """The object is in a state that does not allow this."""


class TooLarge(Refused):
    """The request is over a stated limit of size."""


class StateConflict(WylonError):
    """An event came to a batch whose status does not take it: somebody else was first."""


class KeyTaken(WylonError):
    """Another request stored its object with this Idempotency-Key: nothing of this one is stored."""


class LineInvalid(WylonError):
    """One line of an input file is no valid request."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class StorageFull(WylonError):
    """No room is left where blobs are kept: free some, then send the request again."""


class BlobMissing(WylonError):
    """The bytes of a file are not where they should be."""


class Unavailable(WylonError):
    """Something this needs does not answer right now: try again in a moment."""


class SettingInvalid(WylonError):
    """A setting can't be used: the message names its variable and says what fits."""
