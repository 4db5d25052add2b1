from app.domain.watch import Watch


def test_a_value_that_stays_is_seen_to_stay_for_the_time_between_the_looks() -> None:
    watch: Watch[str, int] = Watch(10)

    assert watch.unchanged_s("a", 1, 100.0) == 0
    assert watch.unchanged_s("a", 1, 103.0) == 3
    assert watch.unchanged_s("a", 1, 108.0) == 8


def test_a_value_that_changes_starts_anew() -> None:
    watch: Watch[str, int] = Watch(10)
    watch.unchanged_s("a", 1, 100.0)

    assert watch.unchanged_s("a", 2, 105.0) == 0
    assert watch.unchanged_s("a", 2, 106.0) == 1


def test_of_a_standstill_of_the_one_who_looks_only_so_much_counts() -> None:
    watch: Watch[str, int] = Watch(10)
    watch.unchanged_s("a", 1, 100.0)

    assert watch.unchanged_s("a", 1, 10_000.0) == 10


def test_each_key_has_its_own_time() -> None:
    watch: Watch[str, int] = Watch(10)
    watch.unchanged_s("a", 1, 100.0)
    watch.unchanged_s("b", 1, 104.0)

    assert watch.unchanged_s("a", 1, 105.0) == 5
    assert watch.unchanged_s("b", 1, 105.0) == 1


def test_what_is_forgotten_starts_anew() -> None:
    watch: Watch[str, int] = Watch(10)
    for key in ("a", "b", "c"):
        watch.unchanged_s(key, 1, 100.0)

    watch.restart("a")
    watch.keep({"a", "b"})

    assert [watch.unchanged_s(key, 1, 105.0) for key in ("a", "b", "c")] == [0, 5, 0]
