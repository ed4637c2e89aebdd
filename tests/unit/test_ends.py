"""Handing what has ended from one thread to another, in batches."""

from __future__ import annotations

import threading
import time
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from orderrelay_workers.ends import Ends


def test_nothing_comes_in_time() -> None:
    """Where nothing ends, the taker gets nothing, after its timeout."""
    ends: Ends[int] = Ends()
    began = time.monotonic()
    assert ends.take(10, timeout=0.02, linger_seconds=5.0) == []
    assert time.monotonic() - began >= 0.02


def test_no_more_than_asked_for_and_in_order() -> None:
    """The rest stays for the next time."""
    ends: Ends[int] = Ends()
    for number in range(5):
        ends.put(number)
    assert ends.take(3, timeout=5.0, linger_seconds=5.0) == [0, 1, 2]
    assert ends.take(3, timeout=5.0, linger_seconds=0.0) == [3, 4]


def test_others_join_the_first() -> None:
    """The taker waits a moment for more, and no longer than until there are enough."""
    ends: Ends[int] = Ends()
    ends.put(1)

    def join() -> None:
        ends.put(2)
        ends.put(3)

    joining = threading.Timer(0.01, join)
    joining.start()
    assert ends.take(3, timeout=60.0, linger_seconds=60.0) == [1, 2, 3]
    joining.join()


def test_a_wake_ends_the_wait_once() -> None:
    """Whoever is woken gets what is there, be it nothing, even if the wake came first; the next time waits again."""
    ends: Ends[int] = Ends()
    waking = threading.Timer(0.01, ends.wake)
    waking.start()
    assert ends.take(3, timeout=60.0, linger_seconds=60.0) == []
    waking.join()
    ends.wake()
    ends.put(1)
    assert ends.take(3, timeout=60.0, linger_seconds=60.0) == [1]
    began = time.monotonic()
    assert ends.take(3, timeout=0.02, linger_seconds=60.0) == []
    assert time.monotonic() - began >= 0.02


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 9))
def test_nothing_is_lost_between_threads(sizes: list[int], most: int) -> None:
    """Whatever several threads put, the taker gets all of it, once, and never sleeps over what is there."""
    ends: Ends[int] = Ends()
    numbers = count()
    total = 50 * sum(sizes)

    def put(size: int) -> None:
        for _ in range(50 * size):
            ends.put(next(numbers))

    threads = [threading.Thread(target=put, args=[size]) for size in sizes]
    for thread in threads:
        thread.start()
    taken: list[int] = []
    while len(taken) < total:
        batch = ends.take(most, timeout=30.0, linger_seconds=0.001)
        assert batch, "something was put, and nobody was woken"
        taken += batch
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(total))
