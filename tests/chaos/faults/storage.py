"""The folder of files full, read-only or gone."""

from contextlib import AbstractContextManager

from tests.chaos.faults.registry import fault
from tests.chaos.lines import make_lines
from tests.chaos.scene import Scene

_SPAN_S = (3.0, 8.0)


@fault("storage-full")
def storage_full(scene: Scene) -> None:
    scene.has_crumbs = True
    if not scene.house.storage.is_mounted:
        scene.notes.append("skipped: no file system may be mounted here")
        return
    with scene.house.storage.full():
        scene.wait(scene.rng.uniform(*_SPAN_S))


@fault("storage-full-at-upload")
def storage_full_at_upload(scene: Scene) -> None:
    if not scene.house.storage.is_mounted:
        scene.notes.append("skipped: no file system may be mounted here")
        return
    scene.has_crumbs = True
    content = b"\n".join(line.encode() for line in make_lines(scene.rng, f"{scene.name}-refused", 400)) + b"\n"
    with scene.house.storage.full():
        status = scene.caller.try_upload(content)
    if status not in (None, 507, 503):
        scene.violations.append(f"an upload to a full storage was answered with {status}")
    scene.submit("after-full", make_lines(scene.rng, f"{scene.name}-after-full", 50))


@fault("storage-read-only")
def storage_read_only(scene: Scene) -> None:
    scene.has_crumbs = True
    if not scene.house.storage.is_mounted:
        scene.notes.append("skipped: no file system may be mounted here")
        return
    with scene.house.storage.read_only():
        scene.wait(scene.rng.uniform(*_SPAN_S))


@fault("storage-missing")
def storage_missing(scene: Scene) -> None:
    _replace(scene, scene.house.storage.missing())


@fault("storage-moved")
def storage_moved(scene: Scene) -> None:
    _replace(scene, scene.house.storage.moved())


@fault("storage-empty")
def storage_empty(scene: Scene) -> None:
    _replace(scene, scene.house.storage.emptied())


@fault("storage-of-another")
def storage_of_another(scene: Scene) -> None:
    _replace(scene, scene.house.storage.anothers())


@fault("storage-restored")
def storage_restored(scene: Scene) -> None:
    # What is written while it is copied is in neither.
    scene.has_crumbs = True
    scene.house.storage.restore_without_plans()


def _replace(scene: Scene, replaced: AbstractContextManager[None]) -> None:
    """Have something else in the storage's place for a while: nothing may be taken or written there."""
    scene.has_crumbs = True
    content = b"\n".join(line.encode() for line in make_lines(scene.rng, f"{scene.name}-refused", 40)) + b"\n"
    storage = scene.house.storage
    with replaced:
        status = scene.caller.try_upload(content)
        scene.wait(scene.rng.uniform(*_SPAN_S))
    if status not in (None, 503):
        scene.violations.append(f"an upload without a storage was answered with {status}")
    if storage.written_elsewhere:
        scene.violations.append(f"the folder in the storage's place was changed: {storage.written_elsewhere}")
