"""What the files of deploy say that is to be started, and with which environment: read as systemd and Compose would."""

from __future__ import annotations

import json
import os
import re
import shlex
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DEPLOY = Path(__file__).parents[1] / "deploy"

#: Where the scripts of this environment are, such as `orderrelay` itself.
SCRIPTS = Path(sysconfig.get_path("scripts"))


@dataclass(frozen=True)
class Started:
    """A command line with its environment."""

    command: list[str]
    environment: dict[str, str]


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a systemd unit, each with all its values, in order."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith(("#", ";", "[")):
            found.setdefault(key, []).append(value)
    return found


def by_systemd(name: str, instance: str = "") -> Started:
    """What systemd would start of a unit; the program is that of this environment."""
    said = unit(name)
    environment = dict(
        pair.partition("=")[::2] for line in said["Environment"] for pair in shlex.split(line.replace("%i", instance))
    )
    [line] = said["ExecStart"]
    program, *words = shlex.split(line.replace("%i", instance))
    assert program == "/opt/orderrelay/bin/orderrelay"
    return Started([str(SCRIPTS / "orderrelay"), *words], environment)


def compose(name: str = "compose.yaml") -> Any:
    """A parsed Compose file."""
    return YAML(typ="safe").load((DEPLOY / name).read_text())


def by_compose(service: str, **variables: str) -> Started:
    """What Compose would start of a service of our own image: the image's entry point and variables, and the service's.

    Args:
        service: Its name.
        variables: What `.env` would say, for what is put into the Compose file.
    """
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    last_stage = dockerfile.rpartition("\nFROM ")[2]
    [entry_point] = re.findall(r"^ENTRYPOINT (\[.*\])$", last_stage, re.MULTILINE)
    [lines] = re.findall(r"^ENV (.*?[^\\])$", last_stage, re.MULTILINE | re.DOTALL)
    image = dict(word.partition("=")[::2] for word in lines.replace("\\\n", " ").split())
    image["PATH"] = image["PATH"].replace("/opt/orderrelay/bin", str(SCRIPTS)).replace("$PATH", os.environ["PATH"])
    said = compose()["services"][service]
    given = {name: _filled(str(value), variables) for name, value in said.get("environment", {}).items()}
    line: list[str] = [*json.loads(entry_point), *said["command"]]
    program, *words = line
    assert program == "orderrelay"
    return Started([str(SCRIPTS / program), *words], {**image, **given})


def _filled(text: str, variables: dict[str, str]) -> str:
    """With `${NAME:-default}` and `${NAME:?message}` filled in."""

    def value(match: re.Match[str]) -> str:
        name, sign, rest = match.groups()
        found = variables.get(name) or (rest if sign == "-" else "")
        assert found or sign == "-", f"{name} {rest}"
        return found

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text)
