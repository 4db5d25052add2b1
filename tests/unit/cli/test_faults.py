import pytest

from app.cli.upstream.faults import Fault, FaultPlan, Share, parse_fault, parse_share


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("500", Fault("500")),
        ("429x1", Fault("429", 1)),
        ("500x12", Fault("500", 12)),
        ("hang", Fault("hang")),
        ("cutx2", Fault("cut", 2)),
        ("429-none", Fault("429", later="none")),
        ("429-datex3", Fault("429", 3, "date")),
        ("503-99999999999x1", Fault("503", 1, "99999999999")),
    ],
)
def test_a_fault_is_a_status_or_a_kind_and_may_be_counted(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert str(fault) == text


@pytest.mark.parametrize(
    "text",
    ["", "200", "600", "50", "explode", "500x", "500x0", "x2", "500 ", "HANG", "429-", "429-soon", "hang-5", "429-5-5"],
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        parse_fault(text)


def test_a_share_follows_the_fault() -> None:
    assert parse_share("500x2:0.25") == Share(Fault("500", 2), 0.25)
    assert parse_share("hang") == Share(Fault("hang"), 1.0)


@pytest.mark.parametrize("text", ["500:", "500:1.1", "500:-0.1", "500:a", "500:nan"])
def test_a_share_is_a_number_from_0_to_1(text: str) -> None:
    with pytest.raises(ValueError, match="is no share"):
        parse_share(text)


def test_shares_together_are_no_more_than_all() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        FaultPlan([parse_share("500:0.6"), parse_share("hang:0.5")])


def test_a_share_comes_to_that_many_bodies_and_to_the_same_ones_each_time() -> None:
    bodies = [b"body %d" % number for number in range(4_000)]
    plan = FaultPlan([parse_share("500:0.1"), parse_share("hang:0.2")])

    first = [plan.pick(body)[0] for body in bodies]

    assert [plan.pick(body)[0] for body in bodies] == first
    assert 300 < first.count(Fault("500")) < 500
    assert 650 < first.count(Fault("hang")) < 950


def test_a_counted_fault_comes_so_many_times_to_each_body() -> None:
    plan = FaultPlan([parse_share("500x2")])

    assert [plan.pick(b"a")[0] is not None for _ in range(4)] == [True, True, False, False]
    assert plan.pick(b"b")[0] == Fault("500", 2)
    assert plan.asked == {"500x2": 5}
    plan.forget()
    assert plan.pick(b"a")[0] == Fault("500", 2)


def test_a_body_may_ask_for_its_fault_and_for_time() -> None:
    plan = FaultPlan([parse_share("500")])

    assert plan.pick(b'{"content":"hello [[fail:html]] [[sleep:2000]]"}') == (Fault("html"), 2.0)
    assert FaultPlan().pick(b'{"content":"hello [[fail:lunch]] [[1, 2]]"}') == (None, 0.0)
