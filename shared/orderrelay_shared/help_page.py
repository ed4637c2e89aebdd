"""The help pages of commands: their docstrings' exit codes and examples, each on a line of its own. Pure.

A docstring says `Exit code: 0 good, 1 not found` in its last paragraph, and each `Example: orderrelay …` on one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Click leaves a paragraph as it is that begins with this.
_AS_IT_IS: Final = "\b\n"

_EXIT_CODES: Final = re.compile(r"Exit code: (.*?)\.?\s*(?=$|Example: )", re.DOTALL)
_EXAMPLE: Final = re.compile(r"Example: (orderrelay\b[^\n]*)")
_CODE: Final = re.compile(r"(?:^|,\s+)(\d{1,3})\s+")


@dataclass(frozen=True, slots=True)
class HelpPage:
    """What a docstring says: `text` without the rest, what each exit code means, and examples to type."""

    text: str
    exit_codes: tuple[tuple[int, str], ...]
    examples: tuple[str, ...]

    def epilog(self) -> str:
        """Exit codes and examples as they stand at the end of the page; empty if there are none."""
        parts: list[str] = []
        if self.exit_codes:
            lines = [f"  {code:<3}  {meaning}" for code, meaning in self.exit_codes]
            parts.append("\n".join(["Exit codes:", *lines]))
        if self.examples:
            parts.append("\n".join(["Examples:", *(f"  {example}" for example in self.examples)]))
        return "\n\n".join(f"{_AS_IT_IS}{part}" for part in parts)


def read_docstring(text: str) -> HelpPage:
    """The page of a docstring that is free of its indentation."""
    examples = tuple(example.strip() for example in _EXAMPLE.findall(text))
    codes = _EXIT_CODES.search(text)
    # The texts between the numbers; the first is what stands before any.
    split = _CODE.split(" ".join(codes[1].split())) if codes is not None else []
    exit_codes = tuple((int(code), meaning) for code, meaning in zip(split[1::2], split[2::2], strict=True))
    rest = _EXAMPLE.sub("", _EXIT_CODES.sub("", text))
    return HelpPage(rest.strip(), exit_codes, examples)
