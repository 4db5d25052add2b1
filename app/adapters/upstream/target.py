"""Where a base URL points to: an address to connect to, and the names that requests carry."""

from typing import NamedTuple
from urllib.parse import quote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
# What may stand in a path as it is; the percent sign, since a URL may be quoted already.
_PATH_SAFE = "/%:@!$&'()*+,;=~"


class Target(NamedTuple):
    """A server, and the path below which its endpoints are."""

    host: str
    port: int
    is_tls: bool
    # As the Host header names it: an IPv6 address in brackets, the port only where it is not the scheme's own.
    authority: str
    base_path: str

    def path_of(self, endpoint: str) -> str:
        """Return the path of an endpoint, whose `/v1` the base path stands for."""
        return quote(self.base_path + endpoint.removeprefix("/v1"), safe=_PATH_SAFE)


def read_target(base_url: str) -> Target:
    """Return what a base URL such as `https://models:8443/v1` points to; ValueError says what is wrong with it."""
    url = urlsplit(base_url)
    if url.scheme not in _DEFAULT_PORTS or not url.hostname:
        raise ValueError(f"The upstream's URL must be http://HOST… or https://HOST…, not {url.scheme}:….")
    if "@" in url.netloc:
        raise ValueError("The upstream's URL must hold no user and password; give a key as the API key.")
    if url.query or url.fragment:
        raise ValueError("The upstream's URL must end with its path: endpoints are added to it.")
    default_port = _DEFAULT_PORTS[url.scheme]
    # Port 0 is nobody's, so it is not taken for a missing one.
    port = default_port if url.port is None else url.port
    # A name in other letters goes over the wire in its ASCII form.
    host = url.hostname if url.hostname.isascii() else url.hostname.encode("idna").decode()
    name = f"[{host}]" if ":" in host else host
    authority = name if port == default_port else f"{name}:{port}"
    return Target(host, port, url.scheme == "https", authority, url.path.rstrip("/"))
