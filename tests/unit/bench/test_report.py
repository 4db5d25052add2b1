from bench.report import Mark


def test_the_margin_is_how_many_times_as_good_as_it_has_to_be() -> None:
    assert Mark("lines/s", 30.0, 15.0).margin == 2.0
    assert Mark("seconds", 1.5, 3.0, is_most=True).margin == 2.0
