"""Whose turn it is: shares of the permits for every priority, and for what is sent the first time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_shared.states import Priority
from orderrelay_workers.lanes import LANES, after_requests, before, is_retry, lane_of, priority_of, share

URGENT, URGENT_AGAIN, NORMAL, NORMAL_AGAIN, BULK, BULK_AGAIN = LANES

DUE = st.sets(st.sampled_from(LANES), min_size=1)
TURNS = st.integers(0, 10_000_000)


@pytest.mark.parametrize(
    ("priority", "requests", "lane"),
    [
        (Priority.URGENT, 0, 0),
        (Priority.URGENT, 3, 1),
        (Priority.NORMAL, 0, 2),
        (Priority.NORMAL, 1, 3),
        (Priority.BULK, 0, 4),
        (Priority.BULK, 9, 5),
    ],
)
def test_a_lane_is_a_priority_and_whether_it_was_sent(priority: Priority, requests: int, lane: int) -> None:
    """The lane's number says both, and gives the priority back."""
    assert lane_of(priority, requests=requests) == lane
    assert priority_of(lane) is priority
    assert is_retry(lane) == (requests > 0)


def test_a_lane_of_a_newer_version_counts_to_the_last_priority() -> None:
    """What this version does not know is told as bulk, and not at all as an error."""
    assert priority_of(17) is Priority.BULK


@pytest.mark.parametrize("lane", LANES)
def test_what_has_left_makes_it_a_retry(lane: int) -> None:
    """The lane follows the count of requests, both ways, and keeps the priority."""
    assert is_retry(after_requests(lane, 1))
    assert not is_retry(after_requests(lane, 0))
    assert priority_of(after_requests(lane, 1)) is priority_of(lane)


def test_urgent_goes_before_all_and_retries_before_what_is_fresh() -> None:
    """The order in which lanes have their turns, but for the shares."""
    assert sorted(LANES, key=lambda lane: len(before(lane))) == [
        URGENT_AGAIN, URGENT, NORMAL_AGAIN, NORMAL, BULK_AGAIN, BULK
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("permits", "turn", "due", "retries", "takes"),
    [
        (50, 0, {NORMAL}, None, [(NORMAL, 50)]),
        (50, 7, {NORMAL}, 0, [(NORMAL, 50)]),
        (50, 0, {NORMAL_AGAIN}, 4, [(NORMAL_AGAIN, 4)]),
        (50, 0, {NORMAL_AGAIN}, 0, []),
        (50, 0, set[int](), None, []),
        (0, 0, {NORMAL}, None, []),
        (1, 0, {URGENT, NORMAL, BULK}, None, [(URGENT, 1)]),
        (1, 3, {URGENT, NORMAL, BULK}, None, [(BULK, 1)]),
        (1, 7, {URGENT, NORMAL, BULK}, None, [(NORMAL, 1)]),
        (1, 7, {URGENT, BULK}, None, [(URGENT, 1)]),
        (1, 3, {NORMAL, BULK}, None, [(BULK, 1)]),
        (32, 0, {URGENT, NORMAL, BULK}, None, [(URGENT, 27), (NORMAL, 4), (BULK, 1)]),
        (32, 5, {URGENT, NORMAL, BULK}, None, [(URGENT, 27), (NORMAL, 4), (BULK, 1)]),
        (32, 0, {NORMAL, BULK}, None, [(NORMAL, 31), (BULK, 1)]),
        (24, 0, {NORMAL, NORMAL_AGAIN}, None, [(NORMAL_AGAIN, 16), (NORMAL, 8)]),
        (24, 0, {NORMAL, NORMAL_AGAIN}, 5, [(NORMAL_AGAIN, 5), (NORMAL, 19)]),
        (24, 0, {NORMAL, NORMAL_AGAIN}, 0, [(NORMAL, 24)]),
    ],
)
def test_permits_are_shared(
    permits: int, turn: int, due: set[int], retries: int | None, takes: list[tuple[int, int]]
) -> None:  # fmt: skip
    """Row by row: whose turn it is, and how much of the permits each lane gets."""
    assert share(permits, turn, due, retries) == takes


@given(permits=st.integers(0, 300), turn=TURNS, due=DUE, retries=st.none() | st.integers(0, 300))
def test_no_more_is_taken_than_may_be(permits: int, turn: int, due: set[int], retries: int | None) -> None:
    """Never more than the permits, never more retries than allowed, only of lanes that are due, and none wasted."""
    takes = share(permits, turn, due, retries)
    allowed = permits if retries is None else retries
    again = sum(limit for lane, limit in takes if is_retry(lane))
    total = sum(limit for _, limit in takes)
    assert total <= permits
    assert again <= allowed
    assert {lane for lane, _ in takes} <= due
    assert len({lane for lane, _ in takes}) == len(takes)
    if any(not is_retry(lane) for lane in due):
        assert total == permits
    else:
        assert total == min(permits, allowed)


@given(permits=st.integers(1, 60), start=TURNS, due=DUE, retries=st.none() | st.integers(1, 60))
def test_nobody_waits_for_ever(permits: int, start: int, due: set[int], retries: int | None) -> None:
    """Within 96 turns every lane has one, however many wait in the others and however few retries are allowed."""
    taken: Counter[int] = Counter()
    for turn in range(start, start + 96):
        taken.update(dict(share(permits, turn, due, retries)))
    assert set(taken) == due
