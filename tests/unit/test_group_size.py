"""How many orders share a request: it grows by what went well and quickly, and shrinks at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_workers.group_size import GroupSize

TIMEOUT = 30.0


def grown(most: int = 100, to: int = 100) -> GroupSize:
    """A size that has grown to so many."""
    size = GroupSize(most, TIMEOUT)
    while size.size < to:
        size.went_well(size.size, 0.1)
    return size


@pytest.mark.parametrize(("most", "sizes"), [(1, [1, 1, 1]), (3, [2, 3, 3]), (10, [2, 4, 8, 10, 10])])
def test_it_doubles_up_to_the_setting(most: int, sizes: list[int]) -> None:
    """Two full groups in a row that go well double it, and never beyond what is set."""
    size = GroupSize(most, TIMEOUT)
    seen: list[int] = []
    for _ in sizes:
        seen.append(size.size)
        size.went_well(size.size, 0.1)
        size.went_well(size.size, 0.1)
    assert seen == sizes


@pytest.mark.parametrize(
    ("orders", "seconds", "after"),
    [(8, 7.4, 16), (8, 7.6, 8), (8, 15.5, 4), (7, 0.1, 8), (1, 0.1, 8), (1, 29.0, 8), (9, 0.1, 16)],
)
def test_only_full_and_quick_groups_let_it_grow(orders: int, seconds: float, after: int) -> None:
    """Beyond a quarter of the request timeout it stays, beyond half of it it halves; smaller groups prove nothing."""
    size = grown(to=8)
    for _ in range(2):
        size.went_well(orders, seconds)
    assert size.size == after


def test_one_that_goes_badly_halves_it() -> None:
    """What was sent with it is halved, however many of them go badly at once."""
    size = grown()
    for _ in range(5):
        size.went_badly(100)
    assert size.size == 50
    size.went_badly(50)
    assert size.size == 25


def test_a_single_order_that_goes_badly_says_nothing_of_groups() -> None:
    """It only begins the count anew."""
    size = grown(to=8)
    size.went_badly(1)
    assert size.size == 8


def test_it_takes_longer_to_grow_where_groups_never_go_well() -> None:
    """A vendor that refuses every group gets them ever more seldom."""
    size = GroupSize(100, TIMEOUT)
    groups = 0
    for _ in range(1000):
        if size.size > 1:
            groups += 1
            size.went_badly(size.size)
        else:
            size.went_well(1, 0.1)
    assert groups <= 12


def test_what_fits_is_heeded() -> None:
    """Large orders make small groups at once."""
    size = grown()
    size.did_not_fit(3)
    assert size.size == 3
    size.did_not_fit(0)
    assert size.size == 1


@given(
    most=st.integers(1, 100),
    ends=st.lists(st.tuples(st.booleans(), st.integers(1, 100), st.floats(0, 40)), max_size=80),
)
def test_it_stays_within_its_bounds(most: int, ends: list[tuple[bool, int, float]]) -> None:
    """Whatever comes back: from 1 to the setting; at most double at a time, and at most half of what went badly."""
    size = GroupSize(most, TIMEOUT)
    for goes_well, orders, seconds in ends:
        before = size.size
        if goes_well:
            size.went_well(orders, seconds)
            assert size.size <= (before if seconds > TIMEOUT / 4 else 2 * before)
        else:
            size.went_badly(orders)
            assert size.size <= (before if orders == 1 else max(1, orders // 2))
        assert 1 <= size.size <= most
