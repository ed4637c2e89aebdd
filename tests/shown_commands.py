"""What a command line that a document shows must be, by its program; nothing is run.

Ours are parsed by their own parsers. Of others, what they name of this repository must be there.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn
from unittest import mock

from opentelemetry.sdk import environment_variables
from ruamel.yaml import YAML

from orderrelay_shared.settings import describe
from orderrelay_workers.settings import WorkerSettings
from tests.deployed import DEPLOY, compose
from tests.documents import ROOT, command_line, commands_of, parse, typed_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.documents import Block

_ORDERRELAY: Final = command_line()
_MAKEFILE: Final = (ROOT / "Makefile").read_text()
_SETTINGS: Final = {re.sub(r"__<ALIAS>__", "__ACME__", setting.name) for setting in describe(WorkerSettings)} | {
    "ORDERRELAY_ENV_FILE",
    "ORDERRELAY_SECRETS_DIR",
}

#: Programs of others of which no more is known here than which files of this repository they are given.
_OTHERS: Final = frozenset({".", "cp", "curl", "echo", "git", "install", "redis-server", "useradd"})

#: Beginnings of paths that must be there; what else is given to a program is made by the reader.
_OURS: Final = ("deploy/", "docs/", "tests/")


class Mistaken(Exception):
    """What is shown cannot be typed; the text says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Mistaken(message)


class _Parsed(BaseException):
    """A program has understood its arguments, and goes no further."""


def check_lines(block: Block) -> list[list[str]]:
    """Check all command lines of a block, in order.

    Returns:
        The words behind `orderrelay` of each of our commands.

    Raises:
        Mistaken: One of them cannot be typed.
    """
    lines = typed_lines(block)
    if not lines:
        raise Mistaken("nothing is typed in it: what is typed begins with `$ `")
    folders = [ROOT / Path(block.document).parent, ROOT]
    ours: list[list[str]] = []
    for line in lines:
        for command in commands_of(line):
            try:
                ours += _check(command, folders)
            except (Exception, SystemExit) as error:  # typer's and argparse's own, each with its words
                raise Mistaken(f"{line}: {type(error).__name__}: {error}") from error
    return ours


def _check(command: list[str], folders: list[Path]) -> list[list[str]]:
    words = list(command)
    while words and (found := re.match(r"(\w+)=", words[0])):
        _require(found[1].startswith("ORDERRELAY_"), f"{found[1]} is no variable of ours")
        check_name(found[1])
        words.pop(0)
    if not words:
        return []
    program, *rest = words
    for word in rest:
        if word.startswith(_OURS) and not (word.startswith("deploy/") and program == "kubectl" and "exec" in rest):
            _find(word, folders)
    name = program.rpartition("/")[2] or program
    if name in _PROGRAMS:
        return _PROGRAMS[name](rest, folders)
    _require(name in _OTHERS, f"{program} is a program that nobody has told this test of")
    if name == "cp":
        _find(rest[0], folders)
    return []


def check_name(name: str) -> None:
    """Check the name of a variable of ours, or of OpenTelemetry's.

    Raises:
        Mistaken: There is no such setting.
    """
    known = re.sub(r"(ORDERRELAY_COMPANIES)__\w+?__", r"\1__ACME__", name)
    _require(known in _SETTINGS or name in vars(environment_variables), f"{name} is no setting")


def _require(holds: object, problem: str) -> None:
    if not holds:
        raise Mistaken(problem)


def _find(path: str, folders: Iterable[Path]) -> Path:
    found = [match for folder in folders for match in folder.glob(path)]
    _require(found, f"{path} is not there")
    return found[0]


def _orderrelay(words: list[str], _folders: list[Path]) -> list[list[str]]:
    parse(_ORDERRELAY, words)
    return [words]


def _cd(words: list[str], folders: list[Path]) -> list[list[str]]:
    [folder] = words
    if folder != "orderrelay":  # what `git clone` has made
        folders.insert(0, _find(folder, folders))
    return []


def _export(words: list[str], _folders: list[Path]) -> list[list[str]]:
    for word in words:
        check_name(word.partition("=")[0])
    return []


def _make(words: list[str], _folders: list[Path]) -> list[list[str]]:
    target, *variables = words
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", _MAKEFILE, re.MULTILINE)
    _require(recipe, f"make has no target {target}")
    for variable in variables:
        name, is_given, value = variable.partition("=")
        _require(is_given and name in ("ARGS", "PYTHONS"), f"{variable} is no variable of make")
        assert recipe is not None
        module = re.search(r"\$\(PYTHON\) -m (tests\S+)", recipe[1])
        if name == "ARGS" and module is not None:
            _parse_by_module(module[1], shlex.split(value))
    return []


def _pip(words: list[str], _folders: list[Path]) -> list[list[str]]:
    parser = _Parser()
    parser.add_argument("command", choices=["install"])
    parser.add_argument("what", nargs="?", default="")
    parser.add_argument("--group", choices=list(_pyproject()["dependency-groups"]))
    chosen = parser.parse_args(words)
    named = re.fullmatch(r"(?:\.|orderrelay)(?:\[([\w,]+)\])?|", chosen.what)
    _require(named, f"{chosen.what} is not this package")
    assert named is not None
    extras = _pyproject()["project"]["optional-dependencies"]
    for extra in filter(None, (named[1] or "").split(",")):
        _require(extra in extras, f"there is no extra {extra}")
    return []


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _python(words: list[str], folders: list[Path]) -> list[list[str]]:
    match words:
        case ["-m", "venv", _]:
            pass
        case ["-m", module, *rest] if module.startswith("tests."):
            _parse_by_module(module, rest)
        case [script, *_] if script.endswith(".py"):
            _find(script, folders)
        case _:
            raise Mistaken(f"python {shlex.join(words)} is nothing that this test knows")
    return []


def _parse_by_module(module: str, words: list[str]) -> None:
    """Let a program of the tests read its arguments, and stop it before it does anything."""
    real = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, given: list[str] | None = None, *_: object) -> NoReturn:
        with mock.patch.object(argparse.ArgumentParser, "error", _Parser.error):
            real(parser, given)
        raise _Parsed

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", only_parse),
        mock.patch.object(sys, "argv", [module, *words]),
    ):
        try:
            importlib.import_module(module).main()
        except _Parsed:
            return
    raise Mistaken(f"{module} reads no arguments")


def _docker(words: list[str], folders: list[Path]) -> list[list[str]]:
    if words[0] == "build":
        return []
    services = compose()["services"]
    profiles = sorted({profile for service in services.values() for profile in service.get("profiles", ())})
    parser = _Parser(prog="docker")
    compose_parser = parser.add_subparsers(required=True).add_parser("compose")
    compose_parser.add_argument("--file", action="append", type=lambda name: _find(name, [DEPLOY, *folders]))
    compose_parser.add_argument("--profile", choices=profiles)
    commands = compose_parser.add_subparsers(dest="command", required=True)
    up, run, logs, execute = (commands.add_parser(name) for name in ("up", "run", "logs", "exec"))
    up.add_argument("--detach", action="store_true")
    up.add_argument("--build", action="store_true")
    up.add_argument("--scale", type=lambda text: _require(text.partition("=")[0] in services, f"no service {text}"))
    run.add_argument("--rm", action="store_true")
    logs.add_argument("--follow", action="store_true")
    for command in (run, logs, execute):
        command.add_argument("service", choices=list(services))
        command.add_argument("rest", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(words)
    if chosen.command == "run":
        return _orderrelay(chosen.rest, folders)
    return []


def _kubectl(words: list[str], folders: list[Path]) -> list[list[str]]:
    words = [word for word in words if word != "--namespace=orderrelay"]
    names = {
        found["kind"]: found["metadata"]["name"]
        for path in (DEPLOY / "kubernetes").glob("*.yaml")
        for found in YAML(typ="safe").load_all(path.read_text())
        if found is not None and found.get("kind") in ("Namespace", "Deployment")
    }
    match words:
        case ["create", "namespace", name]:
            _require(name == names["Namespace"], f"the namespace is {names['Namespace']}")
        case ["create", "secret", "generic", "orderrelay", "--from-file=secrets/"]:
            pass
        case ["apply", "--kustomize", folder]:
            _find(f"{folder}/kustomization.yaml", folders)
        case ["exec", target, "--", "orderrelay", *rest]:
            _require(target == f"deploy/{names['Deployment']}", f"the deployment is {names['Deployment']}")
            return _orderrelay(rest, folders)
        case _:
            raise Mistaken(f"kubectl {shlex.join(words)} is nothing that this test knows")
    return []


def _systemctl(words: list[str], _folders: list[Path]) -> list[list[str]]:
    for unit in words[1:]:
        if not unit.startswith("--"):
            file = re.sub(r"@\w*$", "@", unit) + ".service"
            _require((DEPLOY / "systemd" / file).is_file(), f"there is no unit {file}")
    return []


_PROGRAMS: Final[dict[str, Callable[[list[str], list[Path]], list[list[str]]]]] = {
    "cd": _cd,
    "docker": _docker,
    "export": _export,
    "kubectl": _kubectl,
    "make": _make,
    "orderrelay": _orderrelay,
    "pip": _pip,
    "python": _python,
    "python3": _python,
    "systemctl": _systemctl,
}
