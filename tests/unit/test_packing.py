"""Which orders share a request: only fresh ones, no more than allowed, and none of more than a mebibyte."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_workers.ledger.claims import Claim
from orderrelay_workers.packing import MOST_BYTES, pack


def claim(name: str, *, alone: bool = False, size: int = 10) -> Claim:
    """A claim of an order with a body of so many bytes."""
    return Claim(uuid.uuid4(), 1, uuid.UUID(int=1), name, 2 if alone else 1, b"x" * size, b"d", 1, alone=alone)


@pytest.mark.parametrize(
    ("names", "requests", "size", "groups", "left"),
    [
        ("abc", 3, 1, ["a", "b", "c"], ""),
        ("abc", 2, 1, ["a", "b"], "c"),
        ("abcde", 3, 2, ["ab", "cd", "e"], ""),
        ("abcde", 2, 2, ["ab", "cd"], "e"),
        ("aBcD", 9, 10, ["B", "D", "ac"], ""),
        ("aBcD", 2, 10, ["B", "D"], "ac"),
        ("BD", 1, 10, ["B"], "D"),
        ("", 5, 10, [], ""),
    ],
)
def test_orders_are_packed(names: str, requests: int, size: int, groups: list[str], left: str) -> None:
    """What must go alone (upper case) goes first, one by one; the others share; what has no permit is left."""
    packed = pack([claim(name, alone=name.isupper()) for name in names], requests, size)
    assert ["".join(c.external_id for c in group) for group in packed.groups] == groups
    assert "".join(c.external_id for c in packed.left) == left
    assert packed.fitted is None


def test_a_request_has_a_mebibyte_at_most() -> None:
    """Large orders go with fewer others, however large alone, and it is told how many fitted."""
    packed = pack([claim(str(number), size=400_000) for number in range(3)] + [claim("x", size=MOST_BYTES)], 9, 10)
    assert [len(group) for group in packed.groups] == [2, 1, 1]
    assert packed.fitted == 2


@given(
    orders=st.lists(st.tuples(st.booleans(), st.integers(1, MOST_BYTES)), max_size=30),
    requests=st.integers(0, 10),
    size=st.integers(1, 10),
)
def test_nothing_is_lost_nor_sent_twice(orders: list[tuple[bool, int]], requests: int, size: int) -> None:
    """Each claim goes out once or is left, with no more requests than permits."""
    claims = [claim(str(n), alone=alone, size=size) for n, (alone, size) in enumerate(orders)]
    packed = pack(claims, requests, size)
    sent = [one for group in packed.groups for one in group]
    assert sorted(int(c.external_id) for c in [*sent, *packed.left]) == list(range(len(orders)))
    assert len(packed.groups) <= requests
    assert all(0 < len(group) <= size for group in packed.groups)
    for group in (group for group in packed.groups if len(group) > 1):
        assert not any(one.alone for one in group)
        assert len(b"[%s]" % b",".join(one.body for one in group)) <= MOST_BYTES
