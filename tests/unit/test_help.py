"""Every command's help: a purpose, exit codes and examples that can be typed; and the reference made of them.

`python -m tests.unit.test_help` writes docs/commands.md anew.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from orderrelay_shared import command
from orderrelay_shared.help_page import HelpPage, read_docstring

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parents[2] / "docs" / "commands.md"

_HEAD = """# Commands

Made of what `orderrelay COMMAND --help` says, which also has every option. All but `worker` and `outbox init` have
`--json`. Exit codes are the same everywhere: 0 good, 1 some refused or not found, 2 usage or configuration, 3 something
unreachable, 130 interrupted. `orderrelay --install-completion` has bash, zsh, fish and PowerShell complete commands and
options; open a new shell after it.
"""


def root() -> Any:
    """The whole command."""
    return typer.main.get_command(command.build(metadata.entry_points(group=command.GROUP)))


def each_command() -> Iterator[tuple[str, Any]]:
    """Name and command of everything that can be run, such as `audit list`."""
    top = root()
    for name in top.list_commands(None):
        found = top.get_command(None, name)
        below = getattr(found, "commands", None)
        yield from [(name, found)] if below is None else ((f"{name} {n}", found) for n, found in below.items())


COMMANDS = dict(each_command())


def test_the_reference_says_which_commands_have_no_json() -> None:
    """Its head names them; all others have it."""
    without = [name for name, found in COMMANDS.items() if "--json" not in {o for p in found.params for o in p.opts}]
    assert without == ["worker", "outbox init"]


def examples_of(name: str) -> list[str]:
    """The examples of a command, as its help page shows them."""
    return [line.strip() for line in (COMMANDS[name].epilog or "").splitlines() if line.startswith("  orderrelay ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_purpose_exit_codes_and_examples(name: str) -> None:
    """Each example is of this command, names options that there are, and values that fit."""
    first = COMMANDS[name].help.splitlines()[0]
    assert len(first) > 10
    assert "Exit codes:\n  0  " in COMMANDS[name].epilog
    examples = examples_of(name)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert example.startswith(f"orderrelay {name}")
        # Parsed as when it is typed, and not run.
        COMMANDS[name].make_context(name, words[1 + len(name.split()) :])


def test_an_option_that_is_not_there_would_be_noticed() -> None:
    """So the test above means something."""
    with pytest.raises(Exception, match="--no-such"):
        COMMANDS["audit list"].make_context("list", ["--no-such"])


def test_a_docstring_is_taken_apart() -> None:
    """Exit codes with commas in their words, several examples, and what goes before."""
    codes = "Exit code: 0 done, or told, 130 stopped,\nor so."
    page = read_docstring(f"Do it.\n\nMore. {codes} Example: orderrelay a\nExample: orderrelay b -x 'y'")
    assert (page.text, page.exit_codes) == ("Do it.\n\nMore.", ((0, "done, or told"), (130, "stopped, or so")))
    assert page.examples == ("orderrelay a", "orderrelay b -x 'y'")
    assert read_docstring("Only this.") == HelpPage("Only this.", (), ())
    assert read_docstring("Only this.").epilog() == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [("orderrelay aud", {"audit"}), ("orderrelay audit s", {"show", "stats"}), ("orderrelay watch --on", {"--once"})],
)
def test_a_shell_is_told_how_to_go_on(line: str, expected: set[str]) -> None:
    """Completion knows commands, those below them, and options."""
    words = line.split()
    completing = {"_ORDERRELAY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    environment = {**os.environ, **completing}
    program = "from orderrelay_shared.command import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == expected, done.stderr


def reference() -> str:
    """The text of docs/commands.md."""
    parts = [_HEAD]
    for name, found in COMMANDS.items():
        purpose = " ".join(found.help.split("\n\n")[0].split())
        codes = [line.split(maxsplit=1) for line in found.epilog.splitlines() if line[2:3].isdigit()]
        told = "; ".join(f"{code} {meaning}" for code, meaning in codes)
        examples = "\n".join(f"$ {example}" for example in examples_of(name))
        parts.append(f"## {name}\n\n{purpose}\n\n```console\n{examples}\n```\n\nExit codes: {told}.\n")
    return "\n".join(parts)


def test_the_reference_is_of_these_commands() -> None:
    """A stale one is made anew by `python -m tests.unit.test_help`."""
    assert REFERENCE.read_text(encoding="utf-8") == reference()


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
