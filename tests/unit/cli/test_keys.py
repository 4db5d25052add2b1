import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.cli.up.run_folder import RunFolder
from app.config import load_settings
from app.domain.errors import NotAuthorized
from app.wiring.keys import open_keys
from app.wiring.setup import prepare


@pytest.fixture
def data(tmp_path: Path) -> Path:
    prepare(load_settings({"WYLON_DATA": str(tmp_path)}))
    return tmp_path


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments, "--data", str(data)])


def test_a_key_is_printed_once_and_works_until_it_is_revoked(data: Path) -> None:
    value = run(data, "add", "ci").stdout.strip()

    with open_keys(load_settings({"WYLON_DATA": str(data)})) as keys:
        assert keys.identify(value).tenant_id == "default"
        assert run(data, "revoke", "ci").exit_code == 0
        with pytest.raises(NotAuthorized):
            keys.identify(value)


@pytest.mark.parametrize("name", ["50% off", "100%41", "a#b", "why?", "a;b&c=d", "übung 日本", "[x] ${HOME}"])
def test_the_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    prepare(load_settings({"WYLON_DATA": str(folder)}))

    assert run(folder, "add", "ci").exit_code == 0
    assert "ci" in run(folder, "list").stdout
    assert run(folder, "revoke", "ci").exit_code == 0


def test_the_list_shows_names_and_states_and_no_key(data: Path) -> None:
    value = run(data, "add", "ci").stdout.strip()
    run(data, "add", "old")
    run(data, "revoke", "old")

    shown = run(data, "list").output
    listed = json.loads(run(data, "list", "--json").output)

    assert value not in shown
    assert [(key["name"], key["revoked_at"] is None) for key in listed] == [("ci", True), ("old", False)]
    assert "in use" in shown
    assert "revoked 20" in shown
    assert listed[0]["id"] in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("revoke", "nobody"), "no key 'nobody' in use"), (("add", ""), "between 1 and 64")],
)
def test_a_mistake_is_told_in_one_line(data: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run(data, *arguments)

    assert done.exit_code == 1
    assert said in done.output
    assert len(done.output.splitlines()) == 1


def test_a_folder_without_a_database_is_told_and_stays_empty(tmp_path: Path) -> None:
    done = run(tmp_path, "list")

    assert done.exit_code == 1
    assert "There is no database" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["50% #1", "what?x=y", "a b"])
def test_any_name_of_the_data_folder_will_do(tmp_path: Path, name: str) -> None:
    prepare(load_settings({"WYLON_DATA": str(tmp_path / name)}))

    assert run(tmp_path / name, "add", "ci").exit_code == 0


def test_keys_of_a_database_that_only_the_processes_know_are_not_looked_for_in_another(data: Path) -> None:
    folder = RunFolder(data)
    folder.run.mkdir(exist_ok=True)
    folder.write_settings({}, ["WYLON_DATABASE_URL"])

    done = run(data, "add", "ci")

    assert done.exit_code == 1
    assert "set WYLON_DATABASE_URL to the same value here" in done.output
