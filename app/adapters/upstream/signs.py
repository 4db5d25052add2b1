"""Tells from the end of a call how the called server is, and how the model on the server is."""

from app.domain.result import CONNECT_TIMED_OUT, CONNECTION_FAILED, REQUEST_TIMEOUT
from app.domain.retry import TOO_MANY_REQUESTS, Trouble
from app.domain.sign import Sign
from app.services.ports import Answer


def signs_of(answer: Answer | None) -> tuple[Sign, Sign]:
    """Return the signs for the server and for the model; `answer` is None where the call was broken off."""
    if answer is None or answer.trouble is Trouble.WITHHELD:
        return Sign.BROKEN_OFF, Sign.BROKEN_OFF
    if answer.trouble is Trouble.NONE:
        return Sign.ANSWERED, Sign.ANSWERED
    if answer.error is None:
        # A server that limits its callers is well.
        if answer.status == TOO_MANY_REQUESTS:
            return Sign.ANSWERED, Sign.LIMITED
        return Sign.ANSWERED, Sign.REFUSING if answer.trouble is Trouble.FINAL else Sign.FAILING
    code = answer.error[0]
    if answer.trouble is Trouble.AWAY:
        # A server whose connection queue is briefly full lets connections time out.
        return (Sign.FAILING if code == CONNECT_TIMED_OUT else Sign.GONE), Sign.NOTHING
    if code == REQUEST_TIMEOUT[0]:
        # A line may be slow by itself, so the timeout shows nothing about the server or the model.
        return Sign.NOTHING, Sign.NOTHING
    if answer.trouble is Trouble.FINAL:
        return Sign.ANSWERED, Sign.REFUSING
    return (Sign.NOTHING if code == CONNECTION_FAILED else Sign.ANSWERED), Sign.FAILING


def error_of(answer: Answer) -> str:
    """Return a short description of the failure of a call."""
    return answer.error[1] if answer.error else f"The upstream answered {answer.status}."
