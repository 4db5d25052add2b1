"""The models of every upstream; an upstream may have several servers."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait

from app.adapters.upstream.side_by_side import start
from app.domain.errors import Unavailable
from app.domain.upstream import Routes
from app.services.ports import ModelCatalog

Models = list[dict[str, object]]

# Enough for a server that takes no connection, and then a slow answer of a second server.
_PATIENCE_S = 8.0
_MAX_SHOWN_FAULTS = 3


class FirstCatalog:
    """The models of an upstream, from the first server in the list that answers."""

    def __init__(self, servers: Sequence[ModelCatalog]) -> None:
        self._servers = servers

    def models(self) -> Models:
        faults = []
        for server in self._servers:
            try:
                return server.models()
            except Unavailable as fault:
                faults.append(str(fault))
        raise Unavailable(_together(faults))


class UnitedCatalog:
    """The models that lines may ask for, described by the upstream to which the routes send the model.

    The upstreams are asked in parallel. An upstream without an answer in time is left out while another upstream
    answers.

    Args:
        catalogs: the catalogs by the name of the upstream, in the order of the routes.
        routes: tell the upstream of a model.
        endpoints: the endpoints open to batches.
        patience_s: how long to wait for the slowest upstream.
    """

    def __init__(
        self,
        catalogs: Mapping[str, ModelCatalog],
        routes: Routes,
        endpoints: Sequence[str],
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._catalogs = catalogs
        self._routes = routes
        self._endpoints = endpoints
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Models]] = {}

    def models(self) -> Models:
        asked = {name: self._ask(name) for name in self._catalogs}
        wait(asked.values(), timeout=self._patience_s)
        found: dict[str, dict[str, object]] = {}
        faults = []
        for name, answer in asked.items():
            if not answer.done():
                faults.append(f"The upstream {name} did not answer within {self._patience_s:g} s.")
            elif fault := answer.exception():
                faults.append(str(fault))
            else:
                for model in answer.result():
                    if self._is_routed(str(model["id"]), name):
                        found.setdefault(str(model["id"]), model)
        if len(faults) == len(asked):
            raise Unavailable(_together(faults))
        return list(found.values())

    def _ask(self, name: str) -> Future[Models]:
        # Callers share a single request per upstream: a server that hangs costs one thread, not a thread for each
        # caller.
        with self._lock:
            asked = self._asked.get(name)
            if asked is None or asked.done():
                asked = self._asked[name] = start(self._catalogs[name].models)
            return asked

    def _is_routed(self, model: str, upstream: str) -> bool:
        return any(self._routes.route(model, endpoint) == upstream for endpoint in self._endpoints)


def _together(faults: Sequence[str]) -> str:
    unsaid = len(faults) - _MAX_SHOWN_FAULTS
    return " ".join([*faults[:_MAX_SHOWN_FAULTS], *([f"And {unsaid} more."] if unsaid > 0 else [])])
