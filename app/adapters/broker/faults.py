"""Explains a fault of the broker and the cure in one or two sentences, without a password."""

import re

import redis

from app.domain.broker_address import BrokerAddress

_CREDENTIALS = (
    "WRONGPASS|NOAUTH|invalid password|username-password pair|Authentication required|already authenti|"
    "without any password"
)
# The client leaves out the word NOPERM.
_PERMISSION = "NOPERM|[Nn]o permissions"
# The server's alert to a client without a certificate that it trusts.
_NO_CLIENT_CERTIFICATE = "_ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)"
_NO_SUCH_NAME = "knows no such name"
_CURES = (
    (f"Sentinel .*({_CREDENTIALS})", "correct sentinel_username and sentinel_password"),
    (_CREDENTIALS, "correct user and password"),
    (_PERMISSION, "allow the user by ACL SETUSER USER ~wylon:* +@all"),
    ("DB index is out of range|invalid DB index", "it has no database of this number: correct it, such as /0"),
    (_NO_SUCH_NAME, "correct master_name"),
    ("sees no primary", "the Sentinels see no server that works: start one, or wait for the fail-over"),
    ("unknown command .SENTINEL", "no Sentinel answers there: correct host and port"),
    ("[Mm]ismatch", "its certificate is for another name: correct the host, or give ?ssl_check_hostname=false"),
    ("certificate has expired|not yet valid", "its certificate is not valid at this time: renew it, or set the clock"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: name its CA by ?ssl_ca_certs=PATH"),
    (_NO_CLIENT_CERTIFICATE, "it asks for a certificate that it trusts: add ?ssl_certfile=PATH&ssl_keyfile=PATH"),
    (
        "SSL|TLS|WRONG_VERSION_NUMBER|EOF occurred|handshake operation timed out",
        "TLS fails: is this the port for TLS? Without TLS it is redis://",
    ),
    ("Protocol Error", "no Redis answers there: correct host and port"),
    ("Name or service not known|Temporary failure in name|nodename nor|No address", "no such host: correct its name"),
    ("No such file or directory", "there is no such socket: start the broker, or correct the path"),
    ("refused", "nothing listens there: start it, or correct host and port"),
    (
        "closed by server|reset by peer|Connection lost",
        "it hung up: is this the port for TLS? With TLS it is rediss://",
    ),
    ("MISCONF", "it can't write to its disk and refuses: free some, or switch its snapshots off"),
    ("OOM|maxmemory", "its memory is full: raise maxmemory"),
    ("READONLY|replica that only reads", "name the primary, or let Sentinels find it by sentinel://"),
    ("LOADING", "it still loads its data: it passes by itself"),
    ("[Tt]imeout|timed out", "it gives no answer: look at host, port and firewall, and at its load"),
)
# Only a correction of the address or of the server mends these faults.
_LASTING = re.compile(
    f"{_CREDENTIALS}|{_PERMISSION}|DB index|CERTIFICATE_VERIFY_FAILED|{_NO_CLIENT_CERTIFICATE}|{_NO_SUCH_NAME}"
)


def explain_broker_fault(fault: Exception, address: BrokerAddress) -> str:
    """Return the fault, with the address and the cure."""
    said = _said(fault)
    cure = next((cure for pattern, cure in _CURES if re.search(pattern, said)), None)
    reason = f"{cure} ({said})" if cure else said
    for secret in (address.password, str(address.sentinel_options.get("password", ""))):
        reason = reason.replace(secret, "…") if secret else reason
    return f"The broker {address.shown} of WYLON_BROKER_URL can't be used: {reason}"


def is_lasting(fault: Exception) -> bool:
    """Return whether waiting mends nothing, because the address itself is wrong."""
    return bool(_LASTING.search(_said(fault)))


def _said(fault: BaseException) -> str:
    """Return the text of a fault and of the underlying fault, which may name the cause."""
    said = " ".join(str(fault).split()) or type(fault).__name__
    cause = fault.__cause__ or fault.__context__
    if isinstance(cause, (OSError, redis.RedisError)):
        words = " ".join(str(getattr(cause, "strerror", None) or cause).split())
        said = said if words in said else f"{said}: {words}"
    return said
