"""The owner of an unfinished blob is told without a clock."""

import subprocess
import sys
from pathlib import Path

from app.adapters.blobs.parts import is_abandoned, new_part_name
from tests.contracts.storage import mark, open_blobs, put

PROGRAM = "from app.adapters.blobs.parts import new_part_name; print(new_part_name())"


def name_of_a_dead_process() -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    ).stdout.strip()


def changed(name: str, place: int, value: str) -> str:
    parts = name.split("-")
    parts[place] = value
    return "-".join(parts)


def test_a_process_that_runs_has_abandoned_nothing() -> None:
    assert not is_abandoned(new_part_name())
    assert new_part_name() != new_part_name()


def test_a_dead_process_of_this_host_has_abandoned_its_parts() -> None:
    assert is_abandoned(name_of_a_dead_process())


def test_a_new_process_with_the_id_of_a_dead_process_is_told_apart() -> None:
    assert is_abandoned(changed(new_part_name(), 4, "1"))


def test_processes_from_before_the_boot_of_this_host_are_dead() -> None:
    assert is_abandoned(changed(new_part_name(), 1, "0" * 12))


def test_of_other_hosts_and_containers_nothing_is_abandoned() -> None:
    dead = name_of_a_dead_process()

    assert not is_abandoned(changed(dead, 0, "0" * 12))
    assert not is_abandoned(changed(dead, 2, "1"))
    assert not is_abandoned(changed(changed(dead, 0, "0" * 12), 1, "0" * 12))


def test_a_name_of_another_form_is_nobodys() -> None:
    for name in ("", "0123456789abcdef", "x", f"{new_part_name()}x"):
        assert not is_abandoned(name)


def test_unfinished_blobs_of_dead_processes_alone_are_dropped(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    put(blobs, "files/a", b"kept")
    writer = blobs.create("files/b")
    others = changed(name_of_a_dead_process(), 0, "0" * 12)
    for name in (name_of_a_dead_process(), others):
        (tmp_path / ".part" / name).touch()

    assert blobs.drop_abandoned() == 1

    assert len(list((tmp_path / ".part").iterdir())) == 2
    writer.commit()
    assert blobs.read("files/a", 0, 9) == b"kept"
    assert [path.name for path in (tmp_path / ".part").iterdir()] == [others]


def test_a_part_that_can_not_be_deleted_does_not_hold_up_the_others(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    put(blobs, "files/a", b"kept")
    (tmp_path / ".part" / name_of_a_dead_process()).mkdir()
    for _ in range(3):
        (tmp_path / ".part" / name_of_a_dead_process()).touch()

    assert blobs.drop_abandoned() == 3

    (left,) = (tmp_path / ".part").iterdir()
    assert left.is_dir()
