"""Runs the worker's command, which goes wrong in one way from the moment that a file exists.

Variables: `GO_WRONG` names the way (see `WAYS`), `GO_WRONG_IF` the file, and `SET` constants that are changed first,
such as "orderrelay_workers.health:DEAF_AFTER_SECONDS=2", with spaces between them.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu.transport import redis as broker

from orderrelay_workers.sidecar import duties

if TYPE_CHECKING:
    from collections.abc import Callable


def _instead_of_asking(happens: Callable[[Any], bool]) -> None:
    """Replace the consumer's request for the next message; what happens instead says whether that was all."""
    channels: Any = broker.Channel
    ask = channels._brpop_start

    def instead(self: Any, timeout: Any = None) -> None:
        if not happens(self):
            ask(self, timeout)

    channels._brpop_start = instead


def deaf(go_wrong: Path) -> None:
    """Celery's loop turns, and asks its broker for nothing any more."""
    _instead_of_asking(lambda _: go_wrong.exists())


def deaf_once(go_wrong: Path) -> None:
    """... until it has connected anew."""
    channels: weakref.WeakSet[Any] = weakref.WeakSet()

    def is_deaf(channel: Any) -> bool:
        if go_wrong.exists() and not channels:
            channels.add(channel)
        return channel in channels

    _instead_of_asking(is_deaf)


def stuck(go_wrong: Path) -> None:
    """Celery's main thread hangs for ever, so that it sees no signal either."""
    _instead_of_asking(lambda _: go_wrong.exists() and threading.Event().wait())


def hanging(go_wrong: Path) -> None:
    """The beat begins and never ends."""
    beat = duties.beat

    def instead(worker: Any) -> None:
        if go_wrong.exists():
            threading.Event().wait()
        beat(worker)

    duties.beat = instead


WAYS = {"deaf": deaf, "deaf-once": deaf_once, "stuck": stuck, "hanging": hanging}

if __name__ == "__main__":
    for assignment in os.environ.pop("SET", "").split():
        place, value = assignment.split("=")
        module, name = place.split(":")
        assert hasattr(importlib.import_module(module), name), place
        setattr(importlib.import_module(module), name, float(value))
    WAYS[os.environ.pop("GO_WRONG")](Path(os.environ.pop("GO_WRONG_IF")))
    from orderrelay_shared.command import main

    sys.argv[0] = "orderrelay"
    main()
