from pathlib import Path

from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.migrate import migrate
from app.domain.file import File
from tests.unit.services.pipeline_house import NOW


def test_some_blobs_are_the_blobs_of_the_newest_and_of_the_oldest_files(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    migrate(engine)
    store = SqlFileStore(engine)
    for number in range(5):
        store.add(File(f"file-{number}", "tenant", "batch", "in.jsonl", 1, f"files/{number}", NOW))

    found = store.some_blobs(2)
    engine.dispose()

    assert found == ["files/4", "files/3", "files/0", "files/1"]
