"""Which keys were met before, and with what, in 16 to 48 bytes for each: a file may have many millions of orders."""

from __future__ import annotations

import hashlib
from array import array
from typing import Final

_FIRST_SLOTS: Final = 1024


class NumberByKey:
    """Numbers of 64 bits by keys of 64 bits, in two flat arrays; a number that was not set is 0.

    A dictionary of the same takes four times the memory. Keys are expected to be digests, spread evenly.
    """

    def __init__(self) -> None:
        self._keys = array("Q", bytes(8 * _FIRST_SLOTS))
        self._numbers = array("Q", bytes(8 * _FIRST_SLOTS))
        self._used = 0

    def __getitem__(self, key: int) -> int:
        return self._numbers[self._slot(key or 1)]

    def __setitem__(self, key: int, number: int) -> None:
        key = key or 1  # 0 marks a slot that is free.
        slot = self._slot(key)
        if not self._keys[slot]:
            if 3 * (self._used + 1) > 2 * len(self._keys):
                self._grow()
                slot = self._slot(key)
            self._keys[slot] = key
            self._used += 1
        self._numbers[slot] = number

    def _slot(self, key: int) -> int:
        keys = self._keys
        last = len(keys) - 1
        slot = key & last
        while keys[slot] and keys[slot] != key:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        keys, numbers = self._keys, self._numbers
        self._keys = array("Q", bytes(16 * len(keys)))
        self._numbers = array("Q", bytes(16 * len(keys)))
        for key, number in zip(keys, numbers, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot] = key
                self._numbers[slot] = number


class KeysSeen:
    """Which texts were met before, and where first."""

    def __init__(self) -> None:
        self._seen = NumberByKey()

    def add(self, text: str, place: int) -> int:
        """Note a text with its place, a number above 0; the place where it was met first, or 0 if that is here."""
        key = digest_64(text.encode("utf-8", "surrogatepass"))
        first = self._seen[key]
        if not first:
            self._seen[key] = place
        return first


def digest_64(data: bytes) -> int:
    """64 bits that stand for some bytes: among ten million, two that differ share them once in 400,000 files."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
