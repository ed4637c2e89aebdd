"""Where settings come from: the environment, then the env file, then the folder of secrets.

All three hold the same flat names. What is read here becomes a settings model in `orderrelay_shared.settings`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotenv import dotenv_values

from orderrelay_shared import ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: What every variable of Orderrelay begins with.
PREFIX: Final = "ORDERRELAY_"

#: Path of a file of NAME=value lines.
ENV_FILE: Final = "ORDERRELAY_ENV_FILE"

#: Path of a folder with one file per secret, as Docker and Kubernetes mount them.
SECRETS_DIR: Final = "ORDERRELAY_SECRETS_DIR"

#: Between the parts of a nested name: COMPANIES__ACME__TOKEN.
NESTED: Final = "__"

_TESTS = PREFIX + "TEST_"
_LARGEST_SECRET_BYTES = 64 * 1024
_LARGEST_ENV_FILE_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Found:
    """What the three sources hold together.

    Attributes:
        values: Upper-case name without the prefix -> text. The alias in a nested name is in its normal form.
        spelled: Name, also of an empty one -> the full variable name as its author wrote it.
        foreign: Names of secret files without the prefix, which may belong to another service.
        problems: What cannot be read, a line each.
    """

    values: dict[str, str] = field(default_factory=dict[str, str])
    spelled: dict[str, str] = field(default_factory=dict[str, str])
    foreign: set[str] = field(default_factory=set[str])
    problems: list[str] = field(default_factory=list[str])


def find(environ: Mapping[str, str] | None = None, *, may_be_empty: frozenset[str] = frozenset()) -> Found:
    """Read all three sources; the environment beats the env file, which beats the secrets folder.

    Args:
        environ: The environment; default: this process's own.
        may_be_empty: Names where an empty text is a value. Elsewhere it means "not set": Compose files and charts
            often pass variables on that nobody has set.
    """
    environ = os.environ if environ is None else environ
    found = Found()

    def take(source: Mapping[str, str]) -> None:
        _take(found, source, may_be_empty)

    take({name: text for name, text in environ.items() if name.upper().startswith(PREFIX)})
    if path := environ.get(ENV_FILE):
        take(_read_env_file(Path(path), found.problems))
    if path := environ.get(SECRETS_DIR):
        take(_read_secrets(Path(path), found))
    return found


def fingerprint(environ: Mapping[str, str] | None = None) -> bytes:
    """A digest of all that the env file and the secrets folder hold: another one says that something has changed.

    By content and not by time: Kubernetes swaps a link before files of any age, and others write in place.

    Args:
        environ: Says where they are; default: this process's own.
    """
    environ = os.environ if environ is None else environ
    digest = hashlib.sha256()
    for path in _files(environ):
        digest.update(f"{str(path)!r} {_digest_of(path)}\n".encode())
    return digest.digest()


def _files(environ: Mapping[str, str]) -> list[Path]:
    files = [Path(path)] if (path := environ.get(ENV_FILE)) else []
    if path := environ.get(SECRETS_DIR):
        with contextlib.suppress(OSError):  # what cannot be read is told when it is read for its settings
            files += sorted(Path(path).iterdir())
    return files


def _digest_of(path: Path) -> str:
    try:
        is_sized = path.is_file() and path.stat().st_size <= _LARGEST_ENV_FILE_BYTES
        return hashlib.sha256(path.read_bytes()).hexdigest() if is_sized else "no file"
    except OSError as error:
        return type(error).__name__


def _take(found: Found, source: Mapping[str, str], may_be_empty: frozenset[str]) -> None:
    """Add what a weaker source holds, and note names that it holds twice."""
    spellings: dict[str, str] = {}
    aliases: dict[tuple[str, str], str] = {}
    for full_name in sorted(source):
        if full_name.upper() in {ENV_FILE, SECRETS_DIR} or full_name.upper().startswith(_TESTS):
            continue
        name = full_name[len(PREFIX) :]
        group, alias, last = split_nested(name)
        if alias is not None:
            normal = _normal_or_as_given(alias)
            other = aliases.setdefault((group.upper(), normal), alias)
            if other != alias:
                problem = (
                    f"{PREFIX}{group}: the aliases {other!r} and {alias!r} mean the same company {normal!r} "
                    "(allowed: one spelling for all settings of a company)"
                )
                if problem not in found.problems:
                    found.problems.append(problem)
            name = NESTED.join((group.upper(), normal, last.upper()))
        else:
            name = name.upper()
        if (other := spellings.setdefault(name, full_name)) != full_name and alias is None:
            found.problems.append(f"{full_name}: is given as {other} too (allowed: one of them)")
        found.spelled.setdefault(name, full_name)
        if name not in found.values and (source[full_name] or name in may_be_empty):
            found.values[name] = source[full_name]
            found.spelled[name] = full_name


def split_nested(name: str) -> tuple[str, str | None, str]:
    """Split GROUP__ALIAS__NAME into its three parts; a name that is not nested has no alias.

    The alias may hold "__" itself, so it ends at the last one.
    """
    group, separator, rest = name.partition(NESTED)
    alias, last_separator, last = rest.rpartition(NESTED)
    if not (separator and last_separator):
        return name, None, ""
    return group, alias, last


def _normal_or_as_given(alias: str) -> str:
    # A wrong alias is reported where the companies are checked, in the words of its author.
    try:
        return ids.normalise_company(alias)
    except ValueError:
        return alias


def _read_env_file(path: Path, problems: list[str]) -> dict[str, str]:
    try:
        if not path.is_file():
            problems.append(f"{ENV_FILE}: there is no file {str(path)!r} (allowed: the path of a text file)")
            return {}
        # No interpolation: a password may hold "${".
        lines = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{ENV_FILE}: {str(path)!r} cannot be read: {_cause(error)} (allowed: a UTF-8 text file)")
        return {}
    return {name: text for name, text in lines.items() if text is not None and name.upper().startswith(PREFIX)}


def _read_secrets(folder: Path, found: Found) -> dict[str, str]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        found.problems.append(
            f"{SECRETS_DIR}: {str(folder)!r} cannot be read: {_cause(error)} "
            "(allowed: the path of a folder with one file per setting)"
        )
        return {}
    return dict(_secrets_of(files, found))


def _secrets_of(files: Iterable[Path], found: Found) -> Iterator[tuple[str, str]]:
    for path in files:
        name = path.name
        if not name.upper().startswith(PREFIX):
            name = PREFIX + name
            if split_nested(path.name)[1] is None:
                found.foreign.add(path.name.upper())
        try:
            if path.stat().st_size > _LARGEST_SECRET_BYTES:
                if path.name.upper() not in found.foreign:
                    found.problems.append(f"{name}: the file {str(path)!r} is too large (allowed: 64 KiB)")
                continue
            yield name, path.read_bytes().decode("utf-8-sig").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            if path.name.upper() not in found.foreign:
                found.problems.append(
                    f"{name}: the file {str(path)!r} cannot be read: {_cause(error)} (allowed: UTF-8)"
                )


def _cause(error: OSError | UnicodeDecodeError) -> str:
    # The text of a UnicodeDecodeError would show the bytes.
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror or "unknown cause")
