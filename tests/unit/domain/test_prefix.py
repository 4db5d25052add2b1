from hypothesis import given
from hypothesis import strategies as st

from app.domain.prefix import group_alike, group_by_model, model_hash, prefix_key

# Of few kinds, so that some of them are shared.
KEYS = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4).map(lambda levels: key_of(*levels)), max_size=60)


def key_of(*levels: int) -> int:
    """Return the key with these hashes, that of the shortest prefix first."""
    return sum(level << shift for level, shift in zip(levels, (48, 32, 16, 0), strict=True))


def shared_levels(one: bytes, other: bytes) -> int:
    """Return how many of the four levels have the same hash, from the shortest prefix on."""
    differing = prefix_key([one]) ^ prefix_key([other])
    return next((level for level in range(4) if differing >> (48 - 16 * level)), 4)


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from([0, 256, 1_024, 4_096, 16_384]))
def test_what_is_shared_shows_in_the_upper_bits(one: bytes, other: bytes, shared: int) -> None:
    same = b"s" * shared

    levels = shared_levels(same + one, same + other)

    assert levels >= (0, 256, 1_024, 4_096, 16_384).index(shared)


def test_prefixes_that_differ_have_different_keys() -> None:
    texts = [b"a", b"b", b"", b"a" * 257, b"a" * 258, b"b" * 257, b"a" * 2_000, b"a" * 1_500 + b"b" * 500]

    assert len({prefix_key([text]) for text in texts}) == len(texts)


def test_what_comes_after_the_last_level_is_not_looked_at() -> None:
    assert prefix_key([b"x" * 16_384 + b"a"]) == prefix_key([b"x" * 16_384 + b"b" * 9_999_999])
    assert prefix_key([b"x" * 16_384, b"a"]) == prefix_key([b"x" * 16_384, b"b"])


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=5))
def test_parts_count_as_one_text(parts: list[bytes]) -> None:
    assert prefix_key(parts) == prefix_key([b"".join(parts)])


@given(KEYS, st.integers(1, 5))
def test_an_order_has_every_place_once(keys: list[int], at_once: int) -> None:
    order = group_alike(keys, at_once)

    assert order is None or sorted(order) == list(range(len(keys)))
    assert order != list(range(len(keys)))


@given(KEYS, st.integers(1, 5))
def test_lines_that_begin_alike_keep_their_order(keys: list[int], at_once: int) -> None:
    order = group_alike(keys, at_once) or []

    for key in set(keys):
        places = [place for place in order if keys[place] == key]
        assert places == sorted(places)


@given(st.lists(st.integers(0, 5), min_size=12, max_size=80), st.integers(1, 5))
def test_so_many_groups_are_under_way_at_once_and_no_more(kinds: list[int], at_once: int) -> None:
    keys = [key_of(kind, 1, 1, 1) for kind in kinds]
    order = group_alike(keys, at_once) or list(range(len(keys)))
    spans = {kind: [at for at, place in enumerate(order) if kinds[place] == kind] for kind in kinds}

    under_way = [sum(span[0] <= at <= span[-1] for span in spans.values()) for at in range(len(order))]

    assert len(spans) == 1 or max(under_way) <= at_once


@given(KEYS, st.integers(1, 5))
def test_what_is_in_order_stays_in_order(keys: list[int], at_once: int) -> None:
    order = group_alike(keys, at_once) or list(range(len(keys)))

    assert group_alike([keys[place] for place in order], at_once) is None


def test_groups_follow_each_other_in_the_order_of_their_first_lines() -> None:
    keys = [key_of(kind, kind, kind, kind) for kind in (3, 1, 3, 2, 1, 3, 2)]

    assert group_alike(keys, 1) == [0, 2, 5, 1, 4, 3, 6]
    assert group_alike(keys, 2) == [0, 1, 2, 4, 5, 3, 6]


def test_within_a_group_those_that_share_more_are_together() -> None:
    keys = [key_of(short, long, 1, 1) for short, long in ((1, 1), (2, 1), (1, 2), (1, 1), (2, 1), (1, 2))]

    assert group_alike(keys, 1) == [0, 3, 2, 5, 1, 4]


def test_a_level_at_which_most_lines_are_alone_does_not_part_them() -> None:
    # The same system prompt, and each a question of its own.
    keys = [key_of(place % 2, place, place, place) for place in range(6)]

    assert group_alike(keys, 1) == [0, 2, 4, 1, 3, 5]


def test_a_level_at_which_all_are_alike_does_not_hide_the_next() -> None:
    keys = [key_of(7, place % 2, place, place) for place in range(6)]

    assert group_alike(keys, 1) == [0, 2, 4, 1, 3, 5]


def test_lines_that_share_nothing_or_everything_stay_as_they_are() -> None:
    assert group_alike([], 4) is None
    assert group_alike([prefix_key([b"%d" % number]) for number in range(50_000)], 4) is None
    assert group_alike([prefix_key([b"same"])] * 1_000, 4) is None


@given(KEYS, st.data(), st.integers(1, 5))
def test_each_model_has_its_lines_where_the_file_has_them_and_groups_of_its_own(
    keys: list[int], data: st.DataObject, at_once: int
) -> None:
    models = data.draw(st.lists(st.integers(0, 2), min_size=len(keys), max_size=len(keys)))

    order = group_by_model(keys, models, at_once) or list(range(len(keys)))

    assert [models[place] for place in order] == models
    for model in set(models):
        own = [place for place, each in enumerate(models) if each == model]
        alone = group_alike([keys[place] for place in own], at_once) or range(len(own))
        assert [place for place in order if models[place] == model] == [own[rank] for rank in alone]


def test_names_of_models_are_told_apart() -> None:
    assert len({model_hash(name) for name in (None, "small", "large", "größer")}) == 4
    assert model_hash("") == model_hash(None)
