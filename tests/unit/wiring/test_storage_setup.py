"""Which folder `wylon migrate` takes for the storage of its database."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from app.adapters.blobs.marker import MARKER
from app.adapters.db.deployment_store import SqlDeployment
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.migrate import migrate
from app.config import Settings, load_settings
from app.domain.file import File
from app.wiring.setup import prepare
from app.wiring.start import PartsMissing
from app.wiring.stores import open_stores
from tests.contracts.storage import ANOTHERS, mark


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"WYLON_DATA": str(tmp_path / "data"), "WYLON_START_WAIT_S": "0"})


def root_of(settings: Settings) -> Path:
    return settings.storage_folder


class Ids(NamedTuple):
    id: str
    storage: str | None


def ids_of(settings: Settings) -> Ids:
    engine = open_engine(settings.database_url)
    deployment = SqlDeployment(engine)
    found = Ids(deployment.id, deployment.find_storage())
    engine.dispose()
    return found


def put_file(settings: Settings, file_id: str = "file-1", data: bytes = b"x") -> None:
    """Store a file as an older version did: its row, and its bytes in a folder without a marker."""
    settings.data.mkdir(exist_ok=True)
    engine = open_engine(settings.database_url)
    migrate(engine)
    SqlFileStore(engine).add(File(file_id, "tenant", "batch", "in", len(data), f"files/{file_id}", 1.0))
    engine.dispose()
    path = root_of(settings) / "files" / file_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_a_new_database_gets_a_new_folder_with_its_id(settings: Settings) -> None:
    prepare(settings)

    deployment, storage = ids_of(settings)
    assert storage == deployment
    assert (root_of(settings) / MARKER).read_text() == f"{deployment}\n"
    stores = open_stores(settings)
    stores.blobs.check()
    stores.engine.dispose()


def test_preparing_again_changes_nothing(settings: Settings) -> None:
    prepare(settings)
    before = ids_of(settings)

    prepare(settings)

    assert ids_of(settings) == before


def test_a_folder_that_an_older_version_filled_is_known_by_its_files(settings: Settings) -> None:
    put_file(settings)

    prepare(settings)

    stores = open_stores(settings)
    assert stores.blobs.read("files/file-1", 0, 1) == b"x"
    stores.engine.dispose()


def test_a_folder_of_which_some_files_are_lost_is_known_by_the_others(settings: Settings) -> None:
    for number in range(5):
        put_file(settings, f"file-{number}")
    for number in range(4):
        (root_of(settings) / "files" / f"file-{number}").unlink()

    prepare(settings)

    assert ids_of(settings).storage is not None


def lose(root: Path) -> None:
    root.rename(root.with_name("aside"))


def empty(root: Path) -> None:
    lose(root)
    root.mkdir()


def replace_by_anothers(root: Path) -> None:
    empty(root)
    (root / "files").mkdir()
    (root / "files" / "file-stranger").touch()


def replace_by_a_marked_one(root: Path) -> None:
    empty(root)
    mark(root, ANOTHERS)


WRONG = [lose, empty, replace_by_anothers, replace_by_a_marked_one]


@pytest.mark.parametrize("change", WRONG, ids=lambda each: each.__name__.replace("_", " "))
@pytest.mark.parametrize("is_marked", [False, True], ids=["before its storage was marked", "since"])
def test_another_folder_is_refused_and_left_alone(
    settings: Settings, change: Callable[[Path], None], is_marked: bool
) -> None:
    put_file(settings)
    if is_marked:
        prepare(settings)
    before = ids_of(settings)
    change(root_of(settings))
    entries = sorted(root_of(settings).rglob("*"))

    with pytest.raises(PartsMissing, match=str(root_of(settings))):
        prepare(settings)

    assert ids_of(settings) == before
    assert sorted(root_of(settings).rglob("*")) == entries

    if root_of(settings).exists():
        root_of(settings).rename(settings.data / "wrong")
    (settings.data / "aside").rename(root_of(settings))
    prepare(settings)
    assert ids_of(settings).storage == ids_of(settings).id


def test_a_database_without_files_takes_no_folder_with_files_of_another(settings: Settings) -> None:
    (root_of(settings) / "files").mkdir(parents=True)
    (root_of(settings) / "files" / "file-stranger").touch()

    with pytest.raises(PartsMissing, match="files of another database"):
        prepare(settings)

    # As the message says, the operator may decide that it is the right one.
    (root_of(settings) / MARKER).write_text(ids_of(settings).id)
    prepare(settings)
    assert ids_of(settings).storage == ids_of(settings).id


def test_a_database_without_files_takes_no_folder_that_another_marked(settings: Settings) -> None:
    mark(root_of(settings), ANOTHERS)

    with pytest.raises(PartsMissing, match=ANOTHERS):
        prepare(settings)


def test_a_database_restored_from_before_its_storage_was_marked_knows_it_again(settings: Settings) -> None:
    put_file(settings)
    mark(root_of(settings), ANOTHERS)

    prepare(settings)

    assert ids_of(settings).storage == ANOTHERS
    assert (root_of(settings) / MARKER).read_text() == f"{ANOTHERS}\n"


def test_a_torn_marker_is_written_anew_where_the_files_show_whose_the_folder_is(settings: Settings) -> None:
    put_file(settings)
    (root_of(settings) / MARKER).write_bytes(b"01")

    prepare(settings)

    assert (root_of(settings) / MARKER).read_text() == f"{ids_of(settings).id}\n"


def test_a_death_between_marker_and_row_is_made_good_by_the_next_try(settings: Settings) -> None:
    settings.data.mkdir()
    engine = open_engine(settings.database_url)
    migrate(engine)
    mark(root_of(settings), SqlDeployment(engine).id)
    engine.dispose()

    prepare(settings)

    assert ids_of(settings).storage == ids_of(settings).id


def test_a_storage_that_is_mounted_late_is_waited_for_by_name(settings: Settings) -> None:
    prepare(settings)
    root, told = root_of(settings), list[str]()
    lose(root)

    def mount(words: str) -> None:
        told.append(words)
        root.with_name("aside").rename(root)

    prepare(replace(settings, start_wait_s=60), mount)

    (words,) = told
    assert words.startswith("waiting for storage: ")
    assert str(root) in words


def test_a_wish_to_stop_ends_the_wait_for_the_storage(settings: Settings) -> None:
    prepare(settings)
    lose(root_of(settings))

    prepare(replace(settings, start_wait_s=60), should_stop=lambda: True)

    assert not root_of(settings).exists()
