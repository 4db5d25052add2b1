"""kombu's transport for Redis, with the round trips of a message cut down.

By itself kombu takes one message in two round trips, of which the first already took it off the queue, acknowledges it
in a third, and makes a client for each. Here what waits is taken many at a time and noted as taken in the same step,
and acknowledgements of a moment go out together.
"""

import time
from collections.abc import Callable, Sequence
from queue import Empty
from typing import Any

import structlog
from kombu.transport import redis, virtual
from redis.exceptions import ResponseError

from app.adapters.broker import transport as sending
from app.adapters.broker.messages import Garbage, read_message, shown

log = structlog.get_logger()

# How long an acknowledgement waits for others. Behind it the work is recorded: what is lost here costs one look.
_GATHER_ACKS_S = 0.02
_ACKS_AT_ONCE = 256
# Bounds how long one turn of the loop takes.
_TAKE_AT_ONCE = 64

# A request for messages of some queues only is renewed after this.
_PARTIAL_REQUEST_S = 0.2

# Takes up to ARGV[1] messages off a queue, but leaves half of them to other workers unless that is less than ARGV[3],
# and notes each as kombu does: by its tag, with the queue's name ARGV[4], and the instant by its tag.
_TAKE = """
local half = math.floor(redis.call('llen', KEYS[1]) / 2)
local count = math.min(tonumber(ARGV[1]), math.max(half, tonumber(ARGV[3])))
if count == 0 then return {} end
local taken = redis.call('rpop', KEYS[1], count)
if not taken then return {} end
for _, message in ipairs(taken) do
  local tag = string.match(message, '"delivery_tag": ?"([^"]+)"')
  if tag then
    redis.call('zadd', KEYS[3], ARGV[2], tag)
    redis.call('hset', KEYS[2], tag, '[' .. message .. ', "", "' .. ARGV[4] .. '"]')
  end
end
return taken
"""


class QoS(redis.QoS):
    """What a channel has taken and not acknowledged."""

    channel: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # How many messages more are wanted from the queue of this name, None where that is of no matter; without it,
        # as many as kombu allows.
        self.wanted: Callable[[str], int | None] | None = None
        # What is true as messages are asked for, handed to `on_take` as they come.
        self.note: Callable[[], Any] = lambda: None
        self.on_take: Callable[[Any], object] = lambda _: None
        # Calls back after so many seconds, in the thread that acknowledges; without it each goes out at once.
        self.call_later: Callable[[float, Callable[[], None]], object] | None = None
        self.is_noted = False
        self._acknowledged: list[str] = []

    def can_consume(self) -> bool:
        # What an open request brings has left the queue: unread, it would be in no account of what is held.
        if self.channel._in_poll:
            return True
        return self._is_any_wanted() and bool(super().can_consume())

    def is_wanted(self, queue: str) -> bool:
        """Return whether a message of this queue may be taken."""
        wanted = None if self.wanted is None else self.wanted(queue)
        return wanted is None or wanted > 0

    def _is_any_wanted(self) -> bool:
        if self.wanted is None:
            return True
        wanted = [count for queue in self.channel.active_queues if (count := self.wanted(queue)) is not None]
        # Queues of which it is of no matter are looked at with the others: they alone keep no request open.
        return any(count > 0 for count in wanted) or not wanted

    def append(self, message: Any, delivery_tag: str) -> None:
        if self.is_noted:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if self.call_later is None:
            super().ack(delivery_tag)
            return
        virtual.QoS.ack(self, delivery_tag)
        self._acknowledged.append(delivery_tag)
        if len(self._acknowledged) == 1:
            self.call_later(_GATHER_ACKS_S, self.flush)
        elif len(self._acknowledged) >= _ACKS_AT_ONCE:
            self.flush()

    def stop_gathering(self) -> None:
        """Send the acknowledgements that wait, and each from now on at once, from any thread."""
        self.call_later = None
        self.flush()

    def flush(self) -> None:
        """Send the acknowledgements that wait."""
        tags, self._acknowledged = self._acknowledged, []
        if not tags:
            return
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()
        except self.channel.connection_errors:
            # Upkeep clears them away.
            log.warning("messages.not_acknowledged", messages=len(tags), exc_info=True)


class Channel(sending.Channel):
    """A channel that takes many messages at a time from the queues where this is wanted."""

    QoS = QoS
    qos: Any
    _queue_cycle: Any
    # A connection that breaks is no death: the process goes on with what it holds, and others must not have it too.
    do_restore = False
    connection_errors: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._one_client: Any = None
        self._request_note: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        # A client only borrows connections from the pool, so one does for all. The blocking one has its own.
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]
        if self._one_client is None:
            self._one_client = super()._create_client()  # type: ignore[misc]
            self._take = self._one_client.register_script(_TAKE)
        return self._one_client

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._request_note = self.qos.note()
        wanted = [queue for queue in self.active_queues if self.qos.is_wanted(queue)]
        if len(wanted) < len(self.active_queues):
            # Soon there may be room for what the others hold.
            timeout = _PARTIAL_REQUEST_S
        cycle, self._queue_cycle = self._queue_cycle, _Some(self._queue_cycle, set(wanted))
        try:
            super()._brpop_start(timeout)  # type: ignore[misc]
        finally:
            self._queue_cycle = cycle

    def take_waiting(self) -> None:
        """Take what waits in queues of which messages are wanted, while a request for others may be open."""
        # Only that request is bound to a connection: this goes beside it.
        for queue in self.active_queues:
            self._take_more(queue, 1)

    def _brpop_read(self, **options: Any) -> Any:
        # Others may have been taken since it was opened.
        self.qos.on_take(self._request_note)
        try:
            answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            # The next request connects anew.
            self.client.connection.disconnect()
            raise
        except ResponseError:
            self._drop_garbage_queues()
            raise Empty from None
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()  # type: ignore[attr-defined]
        if not answer:
            raise Empty
        key, raw = answer
        queue = str(key, "utf-8").rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        self._hand_on(raw, queue)
        for queue in self.active_queues:
            self._take_more(queue)
        return True

    def _hand_on(self, raw: bytes, queue: str) -> None:
        """Deliver a message, unless it is garbage: that would end the process, and each that comes after it."""
        try:
            message = read_message(raw, queue)
        except Garbage as fault:
            log.warning("message.dropped", queue=queue, reason=ascii(str(fault)), message=shown(raw))
            return
        self.connection._deliver(message, queue)

    def _drop_garbage_queues(self) -> None:
        # The client deletes what has another type than the command wants.
        client = self._create_client()
        for queue in self.active_queues:
            client.llen(queue)
        client.hlen(self.unacked_key)
        client.zcard(self.unacked_index_key)

    def _take_more(self, queue: str, at_least: int = 0) -> None:
        wanted = self.qos.wanted(queue) if self.qos.wanted is not None else None
        if wanted is None:
            return
        left = self.qos.can_consume_max_estimate()
        wanted = min(wanted, _TAKE_AT_ONCE if left is None else left, _TAKE_AT_ONCE)
        if wanted <= 0:
            return
        note = self.qos.note()
        self._create_client()
        keys = [queue, self.qos.unacked_key, self.qos.unacked_index_key]
        try:
            messages: Sequence[bytes] = self._take(keys=keys, args=[wanted, time.time(), at_least, queue])
        except ResponseError:
            self._drop_garbage_queues()
            return
        self.qos.on_take(note)
        self.qos.is_noted = True
        try:
            for message in messages:
                self._hand_on(message, queue)
        finally:
            self.qos.is_noted = False


class _Some:
    """kombu's order of queues, without those of which nothing is wanted."""

    def __init__(self, cycle: Any, queues: set[str]) -> None:
        self._cycle = cycle
        self._queues = queues

    def consume(self, count: int) -> list[str]:
        """Return the queues in the order in which they are asked."""
        return [queue for queue in self._cycle.consume(count) if queue in self._queues]


class Transport(redis.Transport):
    """kombu's, with channels of the kind above."""

    Channel = Channel


class SentinelChannel(Channel, sending.SentinelChannel):
    """Such a channel to the server that Sentinels name."""


class SentinelTransport(redis.SentinelTransport):
    """kombu's, with channels of the kind above."""

    Channel = SentinelChannel
