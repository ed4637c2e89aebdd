"""The root of the `orderrelay` command; what it can do is found in the entry-point group `orderrelay.commands`.

Exit codes: 0 good, 1 some refused or not found, 2 usage or configuration, 3 something unreachable, 130 interrupted.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from orderrelay_shared.help_page import read_docstring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.metadata import EntryPoint

__all__ = ["build", "main", "our_version", "print_json"]

GROUP: Final = "orderrelay.commands"

#: What is said of a command that the base install cannot run.
NEEDS_WORKER: Final = "needs: pip install 'orderrelay[worker]'"

#: The order of the help page: first what a newcomer tries, then daily work, then operators' tools.
_ORDER: Final = (
    *("demo", "enqueue", "status", "watch", "cancel", "worker", "simulator", "doctor", "init"),
    *("outbox", "audit", "parked", "pause", "resume", "rate", "console"),
)

#: Some of what the extra brings: a command of the workers without them cannot run, though its module may load.
_WORKER_PACKAGES: Final = ("celery", "httpx", "sqlalchemy", "structlog")

#: Errors that mean "not reachable", by full name, as importing their packages would slow every command down.
_UNREACHABLE: Final = {
    "redis.exceptions.ConnectionError": "Redis is not reachable; check ORDERRELAY_REDIS_URL",
    "redis.exceptions.TimeoutError": "Redis does not answer in time; check ORDERRELAY_REDIS_URL",
    "sqlalchemy.exc.OperationalError": "The database is not usable; check ORDERRELAY_DATABASE_URL",
    "sqlalchemy.exc.InterfaceError": "The database is not usable; check ORDERRELAY_DATABASE_URL",
    "kombu.exceptions.OperationalError": "The broker is not reachable; check ORDERRELAY_BROKER_URL",
}


class _Root(TyperGroup):
    """Turns the errors that any command may meet into one line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The order of the help page; Typer's own would put all apps behind all functions."""
        return sorted(super().list_commands(ctx), key=_place)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, its help page laid out."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _lay_out(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except typer.BadParameter as error:
            # What pydantic, by which Typer reads values, calls every error.
            error.message = error.message.removeprefix("Value error, ")
            raise
        except Exception as error:
            if (end := _end_of(error)) is None:
                raise
            text, code = end
            typer.echo(text, err=True)
            raise typer.Exit(code) from None


def _lay_out(command: Any) -> None:
    """Give a command, and those below it, a help page with exit codes and examples at its end."""
    page = read_docstring(command.help or "")
    if page.exit_codes or page.examples:
        command.help, command.epilog = page.text, page.epilog()
    for below in getattr(command, "commands", {}).values():
        _lay_out(below)


def _end_of(error: Exception) -> tuple[str, int] | None:
    """What to say of an error, and the exit code; None if it is a mistake in the program."""
    names = [f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__]
    if "orderrelay_shared.settings.SettingsInvalid" in names:
        return str(error), 2
    if isinstance(error, ModuleNotFoundError) and not (error.name or "orderrelay_").startswith("orderrelay_"):
        return f"The package {error.name!r} is missing ({NEEDS_WORKER})", 2
    for name in names:
        if name in _UNREACHABLE:
            return f"{_UNREACHABLE[name]}: {_first_line(error)}", 3
    return None


def _first_line(error: Exception) -> str:
    from orderrelay_shared.urls import mask_urls  # noqa: PLC0415  only an error needs it

    # SQLAlchemy's own text goes on with the statement and its values, which are orders.
    cause = getattr(error, "orig", None) or error
    lines = mask_urls(str(cause)).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def build(entry_points: Iterable[EntryPoint], called: str | None = None) -> typer.Typer:
    """The whole command.

    Args:
        entry_points: The commands; each names a function or a Typer app.
        called: The first word of the command line. If a command is called so, no other is imported.
    """
    app = typer.Typer(
        name="orderrelay",
        cls=_Root,
        help="Submits very many orders to SoftOne GO: never lost, never silently doubled.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # they could show values
        rich_markup_mode=None,  # or "[worker]" would be taken for markup
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    known = {point.name: point for point in entry_points}
    for name in [called] if called is not None and called in known else sorted(known, key=_place):
        _add(app, known[name])
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"orderrelay {our_version() or '(not installed)'}")
        raise typer.Exit


def our_version() -> str | None:
    """The version of this installation; None where the sources just lie about."""
    try:
        return metadata.version("orderrelay")
    except metadata.PackageNotFoundError:
        return None


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _add(app: typer.Typer, point: EntryPoint) -> None:
    if point.module.startswith("orderrelay_workers") and _lacks_worker_packages():
        _add_stub(app, point.name, NEEDS_WORKER)
        return
    try:
        command: Callable[..., object] | typer.Typer = point.load()
    except ModuleNotFoundError as error:
        ours = (error.name or "orderrelay_").startswith("orderrelay_")
        _add_stub(app, point.name, f"cannot be loaded: {error}" if ours else NEEDS_WORKER)
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=point.name)
    else:
        app.command(point.name)(command)


def _lacks_worker_packages() -> bool:
    return any(importlib.util.find_spec(name) is None for name in _WORKER_PACKAGES)


def _add_stub(app: typer.Typer, name: str, why: str) -> None:
    """List a command that cannot run, with the reason."""

    def stub() -> None:
        typer.echo(f"orderrelay {name}: {why}", err=True)
        raise typer.Exit(2)

    # Whatever follows on the command line, the answer is the reason.
    app.command(
        name,
        help=f"({why})",
        short_help=f"({why})",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(stub)


def print_json(value: object) -> None:
    """Print a value as one line of JSON on stdout.

    Args:
        value: Of plain types, times, UUIDs, Decimals (printed as numbers), msgspec structs and dataclasses; anything
            else as its str.
    """
    import msgspec  # noqa: PLC0415  the help page needs none

    encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
    typer.echo(encoder.encode(value))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit.

    Args:
        arguments: The words after `orderrelay`; default: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # A shell that completes a line gives it in the environment.
    typed = words or os.environ.get("_TYPER_COMPLETE_ARGS", os.environ.get("COMP_WORDS", "")).split()[1:]
    try:
        app = build(metadata.entry_points(group=GROUP), typed[0] if typed else None)
        app(args=words, prog_name="orderrelay")
    except KeyboardInterrupt:  # While the command's modules were being imported, or at the very end.
        sys.exit(130)
