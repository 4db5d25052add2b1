"""Opens the HTTP client of the commands, with the certificates and proxies that the environment names."""

from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import click
import httpx

from app.cli.up.options import merged_environ
from app.config.addresses import masked

# An upload has no time limit; the API answers after storing the file.
_TIMEOUT = httpx.Timeout(30.0, read=600.0, write=None)
_OF_TLS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_OF_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_EVERY_ADDRESS = ("all://", "http://", "https://")


def open_http(base_url: str, api_key: str) -> httpx.Client:
    """Open an HTTP client for the API; ClickException names the variable that can't be used.

    A call to this machine uses no proxy: a proxy has no way to this machine, and would see the key.
    """
    try:
        host = httpx.URL(base_url).host
    except httpx.InvalidURL:
        raise click.ClickException("--base-url or WYLON_BASE_URL is no address: give http://HOST:PORT/v1.") from None
    direct = dict.fromkeys(_EVERY_ADDRESS) if _is_this_machine(host) else None
    headers = {"authorization": f"Bearer {api_key}"}
    try:
        return httpx.Client(headers=headers, timeout=_TIMEOUT, mounts=direct)
    except OSError as fault:
        raise _unusable(_OF_TLS, fault.strerror or str(fault)) from None
    except (ValueError, ImportError, httpx.InvalidURL):
        # The fault's text may have a part of a proxy's password.
        raise _unusable(_OF_PROXIES, "a proxy is given as http://HOST:PORT") from None


def proxy_hint(base_url: str) -> str:
    """Return a sentence on the proxy of calls to this address; empty for calls without a proxy."""
    url = httpx.URL(base_url)
    proxies = getproxies()
    scheme = url.scheme if url.scheme in proxies else "all"
    if scheme not in proxies or _is_this_machine(url.host) or proxy_bypass(url.host):
        return ""
    return (
        f" The call went to the proxy {masked(proxies[scheme])} of {scheme.upper()}_PROXY: "
        f"correct the proxy, or add {url.host} to NO_PROXY."
    )


def _is_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _unusable(names: tuple[str, ...], reason: str) -> click.ClickException:
    environ = merged_environ({})
    given = [name for name in names if environ.get(name) or environ.get(name.lower())]
    return click.ClickException(f"{' or '.join(given or names)} can't be used: {reason}. Correct it, or unset it.")
