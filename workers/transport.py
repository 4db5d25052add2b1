"""kombu's transport for Redis, with fewer round trips for a message.

kombu alone takes a message in two round trips, the first of which already removes the message from the queue, and
acknowledges in a third; kombu makes a client for every trip. Here a script takes many waiting messages and notes the
messages as taken in a single step, and the acknowledgements of a short interval go out together.
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

# How long an acknowledgement waits for more. Its work is already recorded: a lost acknowledgement costs a single look.
_GATHER_ACKS_S = 0.02
_ACKS_AT_ONCE = 256
# Bounds the time of a turn of the loop.
_TAKE_AT_ONCE = 64

# A request for messages of only some queues is renewed after this time.
_PARTIAL_REQUEST_S = 0.2

# Takes up to ARGV[1] messages off a queue, but at most half the queue, or ARGV[3] if half is less: the rest is left to
# other workers. Notes a message as kombu does: by tag, the message with the queue's name ARGV[4]; and by tag, the
# instant ARGV[2].
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
    """The messages a channel has taken and not acknowledged."""

    channel: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Returns how many more messages are wanted from the named queue, None for no limit; without the function,
        # only kombu's own limit counts.
        self.wanted: Callable[[str], int | None] | None = None
        # Called as messages are requested; the result goes to `on_take` as the messages arrive.
        self.note: Callable[[], Any] = lambda: None
        self.on_take: Callable[[Any], object] = lambda _: None
        # Calls a function after some seconds, in the acknowledging thread; without it, acknowledgements go out at once.
        self.call_later: Callable[[float, Callable[[], None]], object] | None = None
        self.is_noted = False
        self._acknowledged: list[str] = []

    def can_consume(self) -> bool:
        # The message of an open request has left the queue: unread, the message would count as held by no worker.
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
        # Queues without a limit are polled along with limited queues, but alone keep no request open.
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
        """Send the waiting acknowledgements, and from now on every acknowledgement at once, from whichever thread."""
        self.call_later = None
        self.flush()

    def flush(self) -> None:
        """Send the waiting acknowledgements."""
        tags, self._acknowledged = self._acknowledged, []
        if not tags:
            return
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()
        except self.channel.connection_errors:
            # Upkeep deletes the notes of these messages.
            log.warning("messages.not_acknowledged", messages=len(tags), exc_info=True)


class Channel(sending.Channel):
    """A channel that takes many messages at a time from queues with a limit in `QoS.wanted`."""

    QoS = QoS
    qos: Any
    _queue_cycle: Any
    # After a broken connection the process goes on with its messages, so other workers must not get the messages too.
    do_restore = False
    connection_errors: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._one_client: Any = None
        self._request_note: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        # A client only borrows connections from the pool: one client is enough. The blocking client has its own.
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
            # There may soon be room for messages of the remaining queues.
            timeout = _PARTIAL_REQUEST_S
        cycle, self._queue_cycle = self._queue_cycle, _Some(self._queue_cycle, set(wanted))
        try:
            super()._brpop_start(timeout)  # type: ignore[misc]
        finally:
            self._queue_cycle = cycle

    def take_waiting(self) -> None:
        """Take waiting messages of the wanted queues, even while a request for the remaining queues is open."""
        # Only the open request is bound to a connection; the script runs beside the request.
        for queue in self.active_queues:
            self._take_more(queue, 1)

    def _brpop_read(self, **options: Any) -> Any:
        # Other messages may have been taken since the request was opened.
        self.qos.on_take(self._request_note)
        try:
            answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            # The next request reconnects.
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
        """Deliver a message; drop garbage, which would end this process and every process after it."""
        try:
            message = read_message(raw, queue)
        except Garbage as fault:
            log.warning("message.dropped", queue=queue, reason=ascii(str(fault)), message=shown(raw))
            return
        self.connection._deliver(message, queue)

    def _drop_garbage_queues(self) -> None:
        # The client deletes a key whose type does not fit the command.
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
    """kombu's order of queues, without the unwanted queues."""

    def __init__(self, cycle: Any, queues: set[str]) -> None:
        self._cycle = cycle
        self._queues = queues

    def consume(self, count: int) -> list[str]:
        """Return the queues in the order of polling."""
        return [queue for queue in self._cycle.consume(count) if queue in self._queues]


class Transport(redis.Transport):
    """kombu's transport, with this module's channels."""

    Channel = Channel


class SentinelChannel(Channel, sending.SentinelChannel):
    """This module's channel, to the server named by Sentinels."""


class SentinelTransport(redis.SentinelTransport):
    """kombu's transport for Sentinels, with this module's channels."""

    Channel = SentinelChannel
