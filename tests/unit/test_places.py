"""Places in flight carry one request after another, and never more than there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_workers.places import Ahead, Going, Places
from orderrelay_workers.slots import Slot

if TYPE_CHECKING:
    from orderrelay_workers.request_ends import Request


def going(number: int, at: float = 0.0, patience_seconds: float = 0.25) -> Going:
    """A request that is told from others by its number."""
    return Going(cast("Request", number), Slot(at, patience_seconds))


def numbers(some: list[Going]) -> list[int]:
    """Which requests they are."""
    return [cast("int", each.request) for each in some]


def test_a_place_carries_the_next() -> None:
    """Two places carry five requests in their order; a place that has none to carry is idle, and can be given up."""
    places = Places()
    assert numbers(places.add([going(n) for n in range(5)], 2)) == [0, 1]
    followers = [places.following() for _ in range(5)]
    assert numbers([each for each in followers if each is not None]) == [2, 3, 4]
    assert followers[3:] == [None, None]
    assert (places.held, places.idle, places.waiting) == (2, 2, 0)
    assert (places.give_up(but=1), places.held, places.give_up(but=1), places.give_up()) == (1, 1, 0, 1)


def test_places_up_to_a_share_are_kept() -> None:
    """Of six places, three in use, two are given up where four may be kept, and none while there may be six."""
    places = Places()
    places.add([going(n) for n in range(3)], 6)
    assert (places.give_up(keep=6), places.give_up(keep=4), places.give_up(keep=2)) == (0, 2, 1)
    assert (places.held, places.idle) == (3, 0)


def test_idle_places_are_used_before_others_wait() -> None:
    """What comes in later is carried by a place that lies idle."""
    places = Places()
    places.add([], 1)
    assert numbers(places.add([going(1), going(2)], 0)) == [1]
    assert (places.held, places.idle, places.waiting) == (1, 0, 1)


def test_after_a_bad_end_nothing_follows() -> None:
    """The place is idle though others wait."""
    places = Places()
    places.add([going(1), going(2)], 1)
    places.leave()
    assert (places.idle, places.waiting) == (1, 1)


def test_places_beyond_the_share_carry_nothing_more() -> None:
    """So that another worker gets them, whoever waits here."""
    places = Places()
    places.add([going(n) for n in range(6)], 3)
    places.share = 2
    assert [places.following(), places.idle, places.waiting] == [None, 1, 3]
    following = places.following()
    assert following is not None
    assert numbers([following]) == [3]


def test_who_waits_too_long_is_taken_out() -> None:
    """Each waits as long as its slot allows; the others stay in their order."""
    places = Places()
    places.add([going(1, at=10.0), going(2, at=10.0, patience_seconds=0.0), going(3, at=10.1)], 0)
    assert numbers(places.take_overdue(10.24)) == [2]
    assert numbers(places.take_overdue(10.3)) == [1]
    assert (numbers(places.take_overdue(10.3)), places.waiting) == ([], 1)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.sampled_from(["well", "badly", "overdue"])),
        st.tuples(st.just("give up"), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(_steps)
def test_no_request_is_lost_and_none_goes_without_a_place(steps: list[tuple[object, ...]]) -> None:
    """Whatever happens: as many are carried as places are in use, and each request is somewhere, once."""
    places = Places()
    carried: list[int] = []
    over: list[int] = []
    count = given_up = taken_in = 0
    for step in steps:
        match step:
            case ("add", int(requests), int(new)):
                taken_in += new
                carried += numbers(places.add([going(count + n) for n in range(requests)], new))
                count += requests
            case ("well",) if carried:
                over.append(carried.pop(0))
                if (following := places.following()) is not None:
                    carried += numbers([following])
            case ("badly",) if carried:
                over.append(carried.pop(0))
                places.leave()
            case ("overdue",):
                over += numbers(places.take_overdue(1.0))
            case ("give up", int(but)):
                given_up += places.give_up(but=but)
            case _:
                pass
        assert places.held == taken_in - given_up == len(carried) + places.idle
        assert places.waiting == count - len(carried) - len(over)
    over += numbers(places.take_overdue(1.0))
    assert sorted(carried + over) == list(range(count))


@pytest.mark.parametrize(
    ("seconds", "held", "expected"), [(0.001, 50, 50), (0.2, 50, 50), (0.4, 50, 25), (4.0, 50, 2), (30.0, 50, 0)]
)
def test_as_many_go_ahead_as_places_become_free(seconds: float, held: int, expected: int) -> None:
    """By how long requests take, so many of the places are free within a fifth of a second."""
    ahead = Ahead()
    assert ahead.of(held) == 0  # nothing is known yet
    ahead.learn(seconds, 1)
    assert ahead.of(held) == expected


def test_latency_is_learned_from_each_request() -> None:
    """Many answers say more than one."""
    ahead = Ahead()
    ahead.learn(1.0, 1)
    ahead.learn(0.1, 1)
    assert ahead.of(1000) == int(200 / 0.982)
    ahead.learn(0.1, 200)
    assert ahead.of(1000) == 1000


def test_who_waits_in_vain_halves_how_many_may() -> None:
    """Each time, so that a vendor that stands still costs little; and nothing is known from it alone."""
    ahead = Ahead()
    ahead.in_vain()
    assert ahead.of(1000) == 0
    ahead.learn(0.001, 1)
    seen: list[int] = []
    for _ in range(3):
        ahead.in_vain()
        seen.append(ahead.of(1000))
    assert seen == [500, 250, 125]
