"""Variables that Kubernetes sets in a pod for a service named `wylon`; WYLON_PORT is also the name of a setting."""

import re
from collections.abc import Mapping

from app.config.values import PREFIX

_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_OTHERS = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
PORT_WARNING = (
    f"Warning: {PREFIX}PORT is an address that Kubernetes sets for a service named wylon, and is ignored:"
    " set enableServiceLinks: false in the pod's spec, or name the service differently."
)


def is_port_of_kubernetes(environ: Mapping[str, str]) -> bool:
    """Return whether WYLON_PORT is the address of a service, such as tcp://10.0.0.1:8080, and no setting."""
    return bool(_ADDRESS.match(environ.get(f"{PREFIX}PORT", "")))


def is_of_kubernetes(name: str) -> bool:
    """Return whether Kubernetes sets the variable beside WYLON_PORT."""
    return bool(_OTHERS.fullmatch(name))
