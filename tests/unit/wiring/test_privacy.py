"""Files and folders that other users could read."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from sqlalchemy import URL

from app.config import Settings, load_settings
from app.wiring.privacy import correct_modes

OPEN_FILE, OPEN_FOLDER = 0o644, 0o755


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    data = tmp_path / "data"
    for folder in ("log", "run", "blobs", "blobs/files"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    for file in ("wylon.db", "wylon.db-wal", "wylon.db-shm", "api-key", "log/web.log", "log/web.log.1", "run/web.pid"):
        (data / file).touch()
        (data / file).chmod(OPEN_FILE)
    for folder in ("log", "run", "blobs", "."):
        (data / folder).chmod(OPEN_FOLDER)
    return load_settings({"WYLON_DATA": str(data)})


def open_to_others(folder: Path) -> set[str]:
    found = [folder, *folder.rglob("*")]
    return {path.name for path in found if path.lstat().st_mode & 0o077 and not path.is_symlink()}


def test_what_was_open_is_closed_and_said(settings: Settings) -> None:
    said = correct_modes(settings)

    # What is within a closed folder needs no look.
    assert open_to_others(settings.data) <= {"files"}
    assert len(said) == 1
    assert said[0].startswith(f"Other users could read {settings.data}, ")
    assert correct_modes(settings) == []


def test_a_folder_that_holds_other_things_keeps_its_mode_and_they_theirs(settings: Settings) -> None:
    (settings.data / "thesis.tex").touch()
    (settings.data / "thesis.tex").chmod(OPEN_FILE)

    correct_modes(settings)

    assert open_to_others(settings.data) <= {settings.data.name, "thesis.tex", "files"}
    assert settings.data.stat().st_mode & 0o777 == OPEN_FOLDER


# As the folder is written in the address of the database.
@pytest.mark.parametrize("written", ["elsewhere", "50%25 off", "a%23b%3F"])
def test_a_database_elsewhere_is_closed_and_its_folder_left_alone(
    settings: Settings, tmp_path: Path, written: str
) -> None:
    elsewhere = tmp_path / unquote(written)
    elsewhere.mkdir()
    elsewhere.chmod(OPEN_FOLDER)
    (elsewhere / "w.db").touch()
    (elsewhere / "w.db").chmod(OPEN_FILE)
    moved = load_settings(
        {"WYLON_DATA": str(settings.data), "WYLON_DATABASE_URL": f"sqlite:///{tmp_path}/{written}/w.db"}
    )

    correct_modes(moved)

    assert open_to_others(elsewhere) == {elsewhere.name}


def test_a_storage_outside_of_the_data_folder_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    share.chmod(0o770)

    correct_modes(load_settings({"WYLON_DATA": str(settings.data), "WYLON_STORAGE_URL": f"file://{share}"}))

    assert share.stat().st_mode & 0o777 == 0o770


def test_a_link_to_a_file_elsewhere_leaves_that_file_alone(settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    other.touch()
    other.chmod(OPEN_FILE)
    (settings.data / "log" / "files.log").symlink_to(other)

    correct_modes(settings)

    assert other.stat().st_mode & 0o777 == OPEN_FILE


def test_a_data_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert correct_modes(load_settings({"WYLON_DATA": str(tmp_path / "none")})) == []


@pytest.mark.parametrize("module", ["workers.celery_app", "app.api"])
def test_each_process_makes_its_files_for_its_own_user(module: str, tmp_path: Path) -> None:
    program = (
        f"import os; os.umask(0o022); import {module}; os.close(os.open('made', os.O_CREAT | os.O_WRONLY, 0o666)); "
        "os.mkdir('folder')"
    )
    environ = {**os.environ, "WYLON_DATA": str(tmp_path / "data"), "PYTHONPATH": os.getcwd()}

    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, timeout=60, check=True)

    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["50% #1", "what?x=y"])
def test_a_database_elsewhere_is_closed_whatever_the_name_of_its_folder(tmp_path: Path, name: str) -> None:
    database = tmp_path / name / "wylon.db"
    database.parent.mkdir()
    database.touch()
    database.chmod(OPEN_FILE)
    url = URL.create("sqlite", database=str(database)).render_as_string()

    correct_modes(load_settings({"WYLON_DATA": str(tmp_path / "data"), "WYLON_DATABASE_URL": url}))

    assert database.stat().st_mode & 0o777 == 0o600
