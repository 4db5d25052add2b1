"""Splits a base URL into the address to connect to and the names in requests."""

from typing import NamedTuple
from urllib.parse import quote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
# The characters that stay unquoted in a path; the percent sign too, because a URL may already be quoted.
_PATH_SAFE = "/%:@!$&'()*+,;=~"


class Target(NamedTuple):
    """A server, and the path below which the endpoints are."""

    host: str
    port: int
    is_tls: bool
    # For the Host header: an IPv6 address in brackets, the port only where it is not the default of the scheme.
    authority: str
    base_path: str

    def path_of(self, endpoint: str) -> str:
        """Return the path of an endpoint; the base path stands for the endpoint's `/v1`."""
        return quote(self.base_path + endpoint.removeprefix("/v1"), safe=_PATH_SAFE)


def read_target(base_url: str) -> Target:
    """Return the target of a base URL such as `https://models:8443/v1`; ValueError tells the fault of the URL."""
    url = urlsplit(base_url)
    if url.scheme not in _DEFAULT_PORTS or not url.hostname:
        raise ValueError(f"The upstream's URL must be http://HOST… or https://HOST…, not {url.scheme}:….")
    if "@" in url.netloc:
        raise ValueError("The upstream's URL must hold no user and password; give a key as the API key.")
    if url.query or url.fragment:
        raise ValueError("The upstream's URL must end with its path: endpoints are added to it.")
    default_port = _DEFAULT_PORTS[url.scheme]
    # Port 0 is not a missing port, although no server has it.
    port = default_port if url.port is None else url.port
    # A name in other scripts goes over the wire in ASCII form.
    host = url.hostname if url.hostname.isascii() else url.hostname.encode("idna").decode()
    name = f"[{host}]" if ":" in host else host
    authority = name if port == default_port else f"{name}:{port}"
    return Target(host, port, url.scheme == "https", authority, url.path.rstrip("/"))
