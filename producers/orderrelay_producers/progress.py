"""A progress bar on a terminal's stderr."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import BinaryIO


@contextmanager
def bar(stream: BinaryIO) -> Generator[tuple[Callable[[str], None], Callable[[], None]], None, None]:
    """Show how far a file is read, while the context lasts.

    Args:
        stream: The file; of a pipe the length is not known, and the bar only shows that something goes on.

    Returns:
        How to say a line above the bar, and how to tell that an order is done.
    """
    facts = os.fstat(stream.fileno())
    total = facts.st_size if stat.S_ISREG(facts.st_mode) else None
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("enqueue", total=total)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        def advance() -> None:
            if total is not None:
                progress.update(task, completed=stream.tell())

        yield say, advance
