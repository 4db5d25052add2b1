import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from app.adapters.upstream.catalogs import FirstCatalog, UnitedCatalog
from app.domain.errors import Unavailable
from app.domain.upstream import Routes
from app.services.ports import ModelCatalog
from tests.fakes.outside import FakeCatalog
from tests.unit.domain.test_upstream import CHAT, EMBEDDINGS, spec

AWAY = FakeCatalog(failure=Unavailable("It is away."))


class HangingCatalog:
    """Answers when it is released, and counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0
        self.released = threading.Event()

    def models(self) -> list[dict[str, object]]:
        self.times += 1
        self.released.wait(60)
        return FakeCatalog(["late"]).models()


@pytest.fixture
def hanging() -> Iterator[HangingCatalog]:
    catalog = HangingCatalog()
    yield catalog
    catalog.released.set()


def united(routes: Routes, patience_s: float = 30.0, **catalogs: ModelCatalog) -> UnitedCatalog:
    return UnitedCatalog(catalogs, routes, [CHAT, EMBEDDINGS], patience_s=patience_s)


def ids(catalog: ModelCatalog) -> list[object]:
    return [model["id"] for model in catalog.models()]


def test_of_several_servers_the_first_that_answers_is_believed() -> None:
    assert ids(FirstCatalog([AWAY, FakeCatalog(["a"]), FakeCatalog(["b"])])) == ["a"]


def test_an_upstream_of_which_no_server_answers_is_unavailable_with_some_of_the_reasons() -> None:
    with pytest.raises(Unavailable, match=r"^It is away\. It is away\. It is away\. And 61 more\.$"):
        FirstCatalog([AWAY] * 64).models()


def test_a_model_that_lines_of_another_upstream_ask_for_is_left_out() -> None:
    routes = Routes([spec("gpu", "llama-*"), spec("rest", "*", endpoints=(CHAT,))])

    catalog = united(routes, gpu=FakeCatalog(["llama-1", "qwen"]), rest=FakeCatalog(["llama-2", "qwen", "phi"]))

    assert ids(catalog) == ["llama-1", "qwen", "phi"]


def test_a_model_of_two_upstreams_is_listed_once_as_the_first_says_it() -> None:
    first, second = spec("first", "m", endpoints=(CHAT,)), spec("second", "m")
    both = FakeCatalog(["m"]), FakeCatalog(["m"])

    models = united(Routes([first, second]), first=both[0], second=both[1]).models()

    assert models == both[0].models()


def test_one_that_does_not_answer_is_left_out() -> None:
    routes = Routes([spec("gpu", "a*"), spec("rest", "b*")])

    assert ids(united(routes, gpu=AWAY, rest=FakeCatalog(["b1"]))) == ["b1"]


def test_an_empty_list_is_an_answer() -> None:
    routes = Routes([spec("gpu", "a*"), spec("rest", "b*")])

    assert ids(united(routes, gpu=AWAY, rest=FakeCatalog([]))) == []


def test_only_when_none_answers_it_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"^It is away\. It is away\.$"):
        united(Routes([spec("a"), spec("b")]), a=AWAY, b=AWAY).models()


def test_one_that_hangs_is_waited_for_no_longer_than_the_patience_and_asked_once(hanging: HangingCatalog) -> None:
    catalog = united(Routes([spec("a", "late"), spec("b")]), patience_s=0.05, a=hanging, b=FakeCatalog(["b1"]))

    began = time.monotonic()
    assert [ids(catalog) for _ in range(3)] == [["b1"]] * 3

    assert time.monotonic() - began < 20
    assert hanging.times == 1


def test_one_that_hangs_alone_is_named(hanging: HangingCatalog) -> None:
    with pytest.raises(Unavailable, match=r"The upstream a did not answer within 0\.05 s"):
        united(Routes([spec("a")]), patience_s=0.05, a=hanging).models()


def test_one_that_hung_is_listed_once_it_answers(hanging: HangingCatalog) -> None:
    catalog = united(Routes([spec("a")]), patience_s=0.05, a=hanging)
    with pytest.raises(Unavailable):
        catalog.models()

    hanging.released.set()

    found: list[object] = []
    deadline = time.monotonic() + 20
    while not found and time.monotonic() < deadline:
        with suppress(Unavailable):
            found = ids(catalog)
    assert found == ["late"]
