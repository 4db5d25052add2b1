"""Says at the start whether the model servers answer, without holding up the start."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import structlog

from app.config import Settings
from app.services.upstream_check import ServerCheck
from app.wiring.catalog import build_upstream_check

log = structlog.get_logger()

# A slower model server is reported as not answering; its lines still wait for the server.
_PATIENCE_S = 5.0
_MAX_SHOWN_MODELS = 4


class UpstreamWatch:
    """Asks every model server once, in a separate thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lines: list[str] | None = None
        self._thread = threading.Thread(target=self._ask, name="upstream-watch", daemon=True)
        self._is_told = False

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def tell(self, say: Callable[[str], None]) -> None:
        """Say the findings, once, as soon as the findings are known."""
        if self._lines is not None and not self._is_told:
            self._is_told = True
            for line in self._lines:
                say(line)

    def _ask(self) -> None:
        try:
            check = build_upstream_check(self._settings, _PATIENCE_S, may_stop_at_list=True)
            self._lines = list(findings(asyncio.run(check.check(self._settings.upstreams))))
        except Exception as fault:
            # A failed check must not end the start.
            self._lines = [f"Warning: the model servers could not be checked: {fault}"]


def warn_of_upstreams(settings: Settings) -> None:
    """Log a warning for every model server that does not answer, from a separate thread."""

    def look() -> None:
        try:
            check = build_upstream_check(settings, _PATIENCE_S, may_stop_at_list=True)
            found = asyncio.run(check.check(settings.upstreams))
        except Exception as fault:
            log.warning("upstream.unchecked", error=str(fault))
            return
        for each in found:
            if not each.is_fine:
                log.warning("upstream.unreachable", upstream=each.upstream, url=each.url, error=each.outcome)

    threading.Thread(target=look, name="upstream-check", daemon=True).start()


def findings(checks: Sequence[ServerCheck]) -> Iterator[str]:
    """Yield a line for the terminal about every server, and a cure at the end if a server does not answer."""
    for found in checks:
        name = f"upstream {found.upstream} {found.url}"
        if found.is_fine:
            yield f"{name}: {_models(found)}"
        else:
            yield f"Warning: {name}: {found.outcome}"
    if any(not found.is_fine for found in checks):
        yield "  Requests wait until it answers. Is the URL right, with its /v1? Try: wylon upstreams check"


def _models(found: ServerCheck) -> str:
    models = found.models or ()
    if not models:
        return found.outcome
    more = len(models) - _MAX_SHOWN_MODELS
    shown = ", ".join(models[:_MAX_SHOWN_MODELS]) + (f", {more} more" if more > 0 else "")
    return f"answers; models: {shown}"
