"""Builds the stores, clients and upstreams of a worker process."""

from collections.abc import Mapping
from dataclasses import dataclass

from celery import Celery

from app.adapters.queue import CeleryQueue
from app.adapters.roster import RedisRoster
from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.balanced import OpenUpstream, open_upstream
from app.adapters.upstream.calling import calling_of
from app.config import Settings
from app.domain.limits import MIB
from app.domain.retry import RetryPolicy
from app.domain.upstream import UpstreamSpec
from app.services.execution import ExecutionService
from app.services.ports import Upstream
from app.services.ticks import ControlClock
from app.wiring.stores import Stores, deployment_of, open_redis, open_stores

# The memory for answers, in answers of the largest size: one being recorded, and one arriving meanwhile.
_ANSWERS_AT_ONCE = 2


@dataclass(frozen=True)
class Lines:
    """The stores, clients and upstreams of a worker process; the upstreams by name."""

    stores: Stores
    # The clock by which completion windows end.
    clock: ControlClock
    queue: CeleryQueue
    roster: RedisRoster
    upstreams: Mapping[str, OpenUpstream]
    # Memory budget shared by the answers of the process, until the answers are recorded.
    memory: AnswerMemory

    def execution(self, spec: UpstreamSpec, upstream: Upstream) -> ExecutionService:
        """Return the service that runs the lines of an upstream; `upstream` makes the calls."""
        policy = RetryPolicy(max_tries=spec.max_tries)
        return ExecutionService(upstream, self.clock, policy, call_timeout_s=spec.longest_call_s, name=spec.name)


def build_lines(settings: Settings, celery: Celery) -> Lines:
    """Build the stores, clients and upstreams of a worker process."""
    stores = open_stores(settings)
    client = open_redis(settings, deployment_of(settings))
    max_bytes = settings.max_answer_mib * MIB
    memory = AnswerMemory(_ANSWERS_AT_ONCE * max_bytes)
    return Lines(
        stores=stores,
        clock=ControlClock(stores.clock.monotonic),
        queue=CeleryQueue(celery, client, settings.upstream_names),
        roster=RedisRoster(client),
        upstreams={spec.name: _open(spec, max_bytes, memory) for spec in settings.upstreams},
        memory=memory,
    )


def _open(spec: UpstreamSpec, max_answer_bytes: int, memory: AnswerMemory) -> OpenUpstream:
    calling = calling_of(spec)
    calling["max_answer_bytes"] = max_answer_bytes
    calling["memory"] = memory
    return open_upstream(spec.urls, **calling)
