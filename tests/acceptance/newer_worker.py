"""Runs the worker's command as a later version might: it knows layout 3, the kind "renamed", and body format 2.

All three mean what an order of today means, which is all that matters here: an older worker cannot know.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from orderrelay_shared import intake

if TYPE_CHECKING:
    from collections.abc import Mapping


def learn() -> None:
    """Teach this process what a later version knows; before anything else is imported."""
    read = intake.read_entry

    def read_entry(fields: Mapping[bytes, bytes]) -> intake.Envelope | intake.Ask | intake.Cancel:
        known = dict(fields)
        if fields.get(b"v") == b"3":
            known[b"v"] = b"2"
        if fields.get(b"k") == b"renamed":
            known[b"k"] = b"order"
        return read(known)

    intake.LAYOUT = 3
    intake.KINDS = intake.KINDS | {"renamed"}
    intake.BODY_VERSION = 2
    intake.read_entry = read_entry


if __name__ == "__main__":
    learn()
    from orderrelay_shared.command import main

    sys.argv[0] = "orderrelay"
    main()
