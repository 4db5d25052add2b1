import os
from pathlib import Path

from app.cli.up.broker import embed_broker

LONG = "x" * 120


def test_a_long_path_has_a_short_socket_in_the_same_folder_at_each_start(tmp_path: Path) -> None:
    run = tmp_path / LONG
    first = embed_broker(run)
    try:
        # A supervisor that was killed cleaned up nothing.
        first.socket.touch()

        second = embed_broker(run)

        assert second.socket == first.socket
        assert not second.socket.exists()
        assert len(str(first.socket).encode()) <= 100
        assert first.socket.parent.stat().st_mode & 0o777 == 0o700
    finally:
        first.clean_up()
    assert not first.socket.parent.exists()


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    run = tmp_path / LONG
    first = embed_broker(run)
    os.chmod(first.socket.parent, 0o777)
    try:
        second = embed_broker(run)
        try:
            assert second.socket.parent != first.socket.parent
        finally:
            second.clean_up()
    finally:
        first.clean_up()
