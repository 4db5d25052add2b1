"""Tells a dead host from a slow server, although both stay silent."""

import socket
import struct

# The system probes a silent host after `_ASK_AFTER_S`, and again every `_ASK_EVERY_S`. A live host answers the probes
# by itself, however busy the server is.
_ASK_AFTER_S = 10
_ASK_EVERY_S = 5
_ASK_TIMES = 4
# A host that acknowledges nothing for this long counts as gone. The time bridges a fail-over of the network.
GONE_AFTER_S = _ASK_AFTER_S + _ASK_EVERY_S * _ASK_TIMES
LOOK_EVERY_S = 5.0
# Offsets in Linux' struct tcp_info. The struct begins with 8 bytes; bytes 2 and 3 count retransmissions of data and
# unanswered probes. Then come numbers of 32 bits; the 13th is the milliseconds since the last acknowledgement.
_REPEATS_AT, _QUESTIONS_AT = 2, 3
_ACKNOWLEDGED_AT = 8 + 12 * 4
_INFO_BYTES = _ACKNOWLEDGED_AT + 4
_NUMBER = struct.Struct("=I")


def keep_alive(sock: socket.socket) -> None:
    """Have the system find out whether the other host is alive while no data is sent."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _ASK_AFTER_S), ("TCP_KEEPINTVL", _ASK_EVERY_S), ("TCP_KEEPCNT", _ASK_TIMES)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Pulse:
    """Whether the other host of a connection acknowledges data; call `is_gone` every `LOOK_EVERY_S`.

    TCP_USER_TIMEOUT would do most of this, but also ends connections to hosts that answer each probe and only have no
    room for more of the request. Without the option, and while data is on its way, the system keeps trying for a
    quarter of an hour.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._is_unanswered = False

    def is_gone(self) -> bool:
        """Return whether the host has acknowledged nothing for long, at least since the previous call."""
        was_unanswered, self._is_unanswered = self._is_unanswered, False
        if not hasattr(socket, "TCP_INFO"):
            return False
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            return False
        if len(info) < _INFO_BYTES:
            return False
        # The last acknowledgement may be old only because no data was sent since.
        self._is_unanswered = bool(info[_REPEATS_AT] or info[_QUESTIONS_AT])
        silent_ms = _NUMBER.unpack_from(info, _ACKNOWLEDGED_AT)[0]
        return was_unanswered and self._is_unanswered and silent_ms >= GONE_AFTER_S * 1_000
