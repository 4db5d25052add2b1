from bench.upstream_samples import Sample, between_dispatches


def sample(at_s: float, requests: int, refused: int = 0) -> Sample:
    return Sample(at_s, 0.0, 0.0, requests, 0, refused, 0, 0, 0)


def test_what_counts_is_from_before_the_first_request_to_the_last_with_lines_still_to_come() -> None:
    samples = [sample(0, 0), sample(1, 0), sample(2, 5), sample(3, 9), sample(4, 10), sample(5, 10)]

    kept = between_dispatches(samples, lines=10)

    assert [each.at_s for each in kept] == [1, 2, 3]


def test_a_request_that_was_refused_comes_again_and_is_no_line_the_less() -> None:
    samples = [sample(0, 0), sample(1, 10, refused=2), sample(2, 12, refused=2)]

    kept = between_dispatches(samples, lines=10)

    assert [each.at_s for each in kept] == [0, 1]
