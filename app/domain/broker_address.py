"""The address of the broker: Redis or Valkey, by TCP, by TLS, by a socket of the file system, or named by Sentinels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

_SOCKET_SCHEME = "redis+socket"
# A password may have the mark as well.
_SEVERAL = re.compile(";(?=sentinel://)")
_PORTS = {"redis": 6_379, "rediss": 6_379, "sentinel": 26_379}
SCHEMES = (*_PORTS, _SOCKET_SCHEME)
# redis-py's words for how a certificate is checked; Celery's begin with `CERT_`.
_CERT_REQS = ("required", "optional", "none")
_TLS_TEXTS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")
_TLS_WORDS = ("ssl_cert_reqs", "ssl_check_hostname", *_TLS_TEXTS)
_ESCAPES = "an @, /, ? or # of a password, a path or an option is written %40, %2F, %3F or %23"
_DATABASE_WORDS = ("db", "virtual_host")
_SENTINEL_WORDS = ("master_name", "sentinel_username", "sentinel_password")


class Kind(StrEnum):
    """How the broker is reached."""

    TCP = "tcp"
    TLS = "tls"
    SOCKET = "socket"
    SENTINEL = "sentinel"


@dataclass(frozen=True)
class BrokerAddress:
    """The address of the broker, and how to speak to it."""

    kind: Kind
    # The server, or the Sentinels that know the server; empty for a socket.
    servers: tuple[tuple[str, int], ...] = ()
    path: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    # Options of TLS by redis-py's names; None for plain connections.
    tls: Mapping[str, object] | None = field(default=None, repr=False)
    master_name: str = ""
    sentinel_options: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The address for people: without user and password."""
        if self.kind is Kind.SOCKET:
            return f"{self.path} (database {self.database})"
        hosts = ", ".join(f"{_bracketed(host)}:{port}" for host, port in self.servers)
        where = f"{self.master_name} of the Sentinels {hosts}" if self.kind is Kind.SENTINEL else hosts
        return f"{where}/{self.database}{' by TLS' if self.tls is not None else ''}"

    @property
    def url(self) -> str:
        """The address as Celery reads it, without options."""
        credentials = ""
        if self.username is not None or self.password is not None:
            password = "" if self.password is None else f":{quote(self.password, safe='')}"
            credentials = f"{quote(self.username or '', safe='')}{password}@"
        if self.kind is Kind.SOCKET:
            return f"{_SOCKET_SCHEME}://{credentials}{quote(self.path)}?virtual_host={self.database}"
        scheme = {Kind.TCP: "redis", Kind.TLS: "rediss", Kind.SENTINEL: "sentinel"}[self.kind]
        return ";".join(
            f"{scheme}://{credentials}{_bracketed(host)}:{port}/{self.database}" for host, port in self.servers
        )


def read_broker_address(text: str) -> BrokerAddress:
    """Return the address in a text; raise ValueError with the fault of the text, but no password."""
    parts = [_split(part) for part in _SEVERAL.split(text.strip().rstrip(";"))]
    scheme = parts[0].scheme
    if scheme not in SCHEMES or any(part.scheme != scheme for part in parts):
        raise ValueError(f"it must start with one of {', '.join(f'{each}://' for each in SCHEMES)}")
    options = _options(parts)
    first = parts[0]
    username, password = _decoded(first.username), _decoded(first.password)
    if scheme == _SOCKET_SCHEME:
        if not first.path.startswith("/") or first.path == "/" or first.hostname:
            raise ValueError("a socket needs an absolute path: redis+socket:///PATH?virtual_host=0")
        _refuse(options, (*_TLS_WORDS, "ssl", *_SENTINEL_WORDS), "is no option of a socket")
        database = _database("", options)
        return BrokerAddress(
            Kind.SOCKET, path=unquote(first.path), database=database, username=username, password=password
        )
    # Of several Sentinels, the last or each may name the database.
    path = next((path for part in reversed(parts) if (path := part.path.strip("/"))), "")
    database = _database(path, options)
    servers = tuple((_host(part), part.port or _PORTS[scheme]) for part in parts)
    plain = BrokerAddress(Kind.TCP, servers, database=database, username=username, password=password)
    if scheme == "sentinel":
        return _by_sentinels(plain, options)
    _refuse(options, _SENTINEL_WORDS, "is an option of Sentinels: start the address with sentinel://")
    if scheme == "rediss":
        return replace(plain, kind=Kind.TLS, tls=_tls(options))
    _refuse(options, _TLS_WORDS, "is an option of TLS: start the address with rediss://")
    return plain


def _by_sentinels(plain: BrokerAddress, options: Mapping[str, str]) -> BrokerAddress:
    name = options.get("master_name")
    if not name:
        raise ValueError("Sentinels need the name of the servers they watch: add ?master_name=NAME")
    is_tls = options.get("ssl") == "true" or any(word in options for word in _TLS_WORDS)
    own = {word.removeprefix("sentinel_"): options[word] for word in _SENTINEL_WORDS[1:] if options.get(word)}
    return replace(
        plain, kind=Kind.SENTINEL, master_name=name, sentinel_options=own, tls=_tls(options) if is_tls else None
    )


def _split(text: str) -> SplitResult:
    try:
        part = urlsplit(text.strip())
        # Read only for the error on a bad port.
        _ = part.port
    except ValueError:
        raise ValueError(f"its host or port can't be read; {_ESCAPES}") from None
    # The end of a password would count as a path or an option, and be shown.
    if part.fragment or "@" in part.path + part.query:
        raise ValueError(_ESCAPES)
    return part


def _host(part: SplitResult) -> str:
    host = _decoded(part.hostname)
    if host is None and part.netloc.rpartition("@")[2] not in ("", f":{part.port}"):
        raise ValueError("its host can't be read")
    return host or "127.0.0.1"


def _options(parts: list[SplitResult]) -> dict[str, str]:
    options = {name: value for part in parts for name, value in parse_qsl(part.query, keep_blank_values=True)}
    known = (*_TLS_WORDS, *_DATABASE_WORDS, *_SENTINEL_WORDS, "ssl")
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(f"it has the option {unknown[0]!r}; those there are: {', '.join(known)}")
    return options


def _refuse(options: Mapping[str, str], words: tuple[str, ...], reason: str) -> None:
    for word in words:
        if word in options:
            raise ValueError(f"{word} {reason}")


def _database(path: str, options: Mapping[str, str]) -> int:
    text = path or options.get("db") or options.get("virtual_host") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise ValueError(f"the database {text!r} is no number, such as 0")
    return int(text)


def _tls(options: Mapping[str, str]) -> dict[str, object]:
    wanted = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if wanted not in _CERT_REQS:
        raise ValueError(f"ssl_cert_reqs is one of {', '.join(_CERT_REQS)}")
    checks = options.get("ssl_check_hostname", "true" if wanted == "required" else "false").lower()
    if checks not in ("true", "false") or (checks == "true" and wanted == "none"):
        raise ValueError("ssl_check_hostname is true or false; with ssl_cert_reqs=none it can only be false")
    if options.get("ssl_keyfile") and not options.get("ssl_certfile"):
        raise ValueError("ssl_keyfile is the key of a certificate: add ssl_certfile")
    return {
        "ssl_cert_reqs": wanted,
        "ssl_check_hostname": checks == "true",
        **{word: options[word] for word in _TLS_TEXTS if options.get(word)},
    }


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
