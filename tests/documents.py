"""What all documents show in fenced blocks, and the command lines in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orderrelay_shared.command import GROUP, build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

#: What stands between two commands of a line, and before the name of a file.
_BETWEEN, _REDIRECTING = {"&&", "||", ";", "|", "&"}, {">", ">>", "<"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: Its path below the repository's root.
        line: Where it begins there, counted from 1.
        language: The word behind the fence.
        text: What stands in it, not indented, with the last line end.
    """

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line} ({self.language or 'no language'})"


def blocks_of(text: str, document: str) -> list[Block]:
    """The fenced blocks of a document's text, in order."""
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found[2].strip(), textwrap.dedent(found[3]))
        for found in _FENCE.finditer(text)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all documents; of these languages only, if any are named."""
    found = [block for path in DOCUMENTS for block in blocks_of(path.read_text(encoding="utf-8"), _name(path))]
    return [block for block in found if not languages or block.language in languages]


def spans() -> Iterator[tuple[str, str]]:
    """What documents show between backticks outside of blocks, each with the document's path."""
    for path in DOCUMENTS:
        for span in re.findall(r"`([^`]+)`", _FENCE.sub("", path.read_text(encoding="utf-8"))):
            yield _name(path), " ".join(span.split())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def typed_lines(block: Block) -> list[str]:
    """The lines that a reader types, without prompts and output; one with an open quote goes on in the next."""
    lines: list[str] = []
    for line in block.text.splitlines():
        if lines and _goes_on(lines[-1]):
            lines[-1] += f"\n{line}"
        elif block.language != "console":
            lines += [line] if line.strip() else []
        elif line.startswith("$ "):
            lines.append(line.removeprefix("$ "))
    return lines


def _goes_on(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return line.endswith("\\")


def commands_of(line: str) -> list[list[str]]:
    """The commands of a line as words, without comments, redirections and what connects them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word in _BETWEEN:
            commands.append([])
        elif word in _REDIRECTING:
            if commands[-1][-1:] == ["2"]:
                commands[-1].pop()
            next(words)
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


#: What may stand before the words of our command: variables, and how it is called in Compose or from its environment.
_BEFORE = re.compile(r"(?:\S+=\S* )*(?:docker compose run --rm worker|(?:/\S+/)?orderrelay) (?=[a-z])")


def words_of(span: str) -> str | None:
    """What is typed behind `orderrelay`, if the span is one of our commands."""
    found = _BEFORE.match(span)
    return None if found is None else span[found.end() :]


def command_line() -> Any:
    """The whole command line interface."""
    return typer.main.get_command(build(metadata.entry_points(group=GROUP)))


def parse(command: Any, words: Sequence[str]) -> None:
    """Parse the words behind `orderrelay`, but do not run them; what is wrong with them is raised."""
    rest = list(words)
    context = typer.Context(command, info_name="orderrelay")
    while hasattr(command, "commands") and rest:
        command = command.commands[rest.pop(0)]  # a subcommand that does not exist is a KeyError
        context = typer.Context(command, parent=context, info_name=command.name)
    if not hasattr(command, "commands"):  # a group may be named without a subcommand
        command.make_context(command.name, rest, parent=context.parent)
