"""Rules about the repository itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orderrelay_shared.command import build

ROOT = Path(__file__).parents[2]
FOLDERS = ("producers", "shared", "workers")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").glob("*.md"))]

#: No module may be longer, in lines.
CEILING = 400

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(pattern: str) -> list[Path]:
    """The files of the three packages, for example all `*.py`."""
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob(pattern))]


def name_of(path: Path) -> str:
    """The path below the repository's root."""
    return path.relative_to(ROOT).as_posix()


def code_in(document: Path) -> str:
    """What the document shows as code, in blocks and between backticks, a piece a line."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", prose)])


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_no_module_is_long() -> None:
    """A module that outgrows the ceiling is split."""
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in sources("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > CEILING} == {}


@pytest.mark.parametrize("pattern", ["*.py", "*.lua", "py.typed"])
def test_the_wheel_has_every_file(wheel_names: list[str], pattern: str) -> None:
    """What is installed is what was tested, scripts and type markers too."""
    wanted = {path.relative_to(ROOT).as_posix().partition("/")[2] for path in sources(pattern)}
    assert wanted
    assert wanted <= set(wheel_names)


def test_the_wheel_has_nothing_else(wheel_names: list[str]) -> None:
    """Tests and operators' files are not put into other services' environments."""
    tops = {name.partition("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == {"orderrelay_producers", "orderrelay_shared", "orderrelay_workers"}


def test_every_command_can_be_loaded() -> None:
    """Each entry point names something that is there."""
    points = [
        metadata.EntryPoint(name, value, group)
        for group, entries in PYPROJECT["project"]["entry-points"].items()
        for name, value in entries.items()
    ]
    broken: dict[str, str] = {}
    for point in points:
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            broken[point.name] = str(error)
    assert broken == {}


def test_layers_meet_only_in_shared() -> None:
    """Producers and workers do not import each other, and producers stay light."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    checked = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_documents_show_only_commands_that_exist() -> None:
    """Whoever types what a document shows is not told "no such command"."""
    entries = PYPROJECT["project"]["entry-points"]["orderrelay.commands"]
    root: Any = typer.main.get_command(
        build(metadata.EntryPoint(name, value, "orderrelay.commands") for name, value in entries.items())
    )
    unknown: list[str] = []
    for document in DOCUMENTS:
        shown = re.findall(r"(?:^|[\s/])(?:orderrelay|--rm worker) ([a-z][a-z ]*)", code_in(document), re.MULTILINE)
        for words in shown:
            command = root
            for word in words.split():
                if not hasattr(command, "commands"):
                    break  # what follows are its arguments
                if word not in command.commands:
                    unknown.append(f"{name_of(document)}: orderrelay {words}")
                    break
                command = command.commands[word]
    assert unknown == []


def test_documents_show_only_make_targets_that_exist() -> None:
    """`make demo` and its like are in the Makefile, and its help tells of each."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    shown = {
        word
        for document in DOCUMENTS
        for word in re.findall(r"^(?:\$ )?make ([a-z]+)", code_in(document), re.MULTILINE)
    }
    assert shown <= targets
    helped = set(re.findall(r'@echo "make ([a-z]+) ', makefile))
    assert helped == targets - {"help"}


def test_documents_name_only_modules_that_exist() -> None:
    """A reader finds the module that keeps a promise."""
    missing: list[str] = []
    for document in DOCUMENTS:
        for named in re.findall(r"`(orderrelay_(?:producers|shared|workers)(?:\.[a-z_]+)*)`", document.read_text()):
            module = named.replace(".", "/")
            places = [ROOT / folder / end for folder in FOLDERS for end in (f"{module}.py", f"{module}/__init__.py")]
            if not any(place.is_file() for place in places):
                missing.append(f"{name_of(document)}: {named}")
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    """A link to a file of the repository names one."""
    dead = [
        f"{name_of(document)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert dead == []


def test_the_sources_name_no_document_that_is_not_here() -> None:
    """A reader who is sent to a document finds it."""
    here = {path.name for path in [*ROOT.glob("*.md"), *DOCUMENTS]}
    missing = {
        f"{name_of(path)}: {named}"
        for path in sources("*.py") + sources("*.lua")
        for named in re.findall(r"[\w-]+\.md\b", path.read_text())
        if named not in here
    }
    assert missing == set()


def test_the_lock_is_up_to_date_and_public() -> None:
    """`uv.lock` was made from this pyproject.toml, and everything in it comes from the public index."""
    text = (ROOT / "uv.lock").read_text()
    lock = tomllib.loads(text)
    (ours,) = (package for package in lock["package"] if package["name"] == "orderrelay")
    locked = {(entry["name"], entry.get("specifier", "")) for entry in ours["metadata"]["requires-dist"]}
    locked_dev = {(entry["name"], entry.get("specifier", "")) for entry in ours["metadata"]["requires-dev"]["dev"]}
    extras = [line for lines in PYPROJECT["project"]["optional-dependencies"].values() for line in lines]
    assert locked == {parsed(line) for line in PYPROJECT["project"]["dependencies"] + extras}
    assert locked_dev == {parsed(line) for line in PYPROJECT["dependency-groups"]["dev"]}
    hosts = set(re.findall(r"\w+://[^/\"]*", text))
    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}


def parsed(requirement: str) -> tuple[str, str]:
    """Name and version range, spelled as the lock spells them."""
    read = Requirement(requirement)
    wanted = [part.strip() for part in re.split(r",", str(read.specifier)) if part]
    # The lock writes lower bounds before upper ones.
    return canonicalize_name(read.name), ",".join(sorted(wanted, key=lambda part: not part.startswith(">")))
