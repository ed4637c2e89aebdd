"""Every fenced block of the documents says what it is, and is that: parsed here, and run where there is a way to."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import promql_parser
import pytest
from ruamel.yaml import YAML

from orderrelay_producers.testing import InMemoryOrderProducer
from orderrelay_shared.orders import Order
from orderrelay_shared.settings import load
from orderrelay_workers.settings import WorkerSettings
from tests.deployed import DEPLOY
from tests.documents import ROOT, Block, all_blocks, blocks_of, command_line, commands_of, parse, spans, words_of
from tests.shown_commands import Mistaken, check_lines, check_name

if TYPE_CHECKING:
    from collections.abc import Callable

#: Blocks that a test runs just as they stand: that test, which reads the document itself.
RUN_BY: Final = {
    ("README.md", "python"): "tests/fundamentals/test_main_job.py::test_the_readme_shows_how_to_enqueue",
    ("docs/files.md", "console"): "tests/integration/test_files_document.py::test_the_commands_say_what_is_shown",
    ("docs/files.md", "csv"): "tests/integration/test_files_document.py::test_the_commands_say_what_is_shown",
    ("docs/files.md", "json"): "tests/integration/test_files_document.py::test_the_commands_say_what_is_shown",
    ("docs/outbox.md", "console"): "tests/integration/test_outbox_document.py::test_the_document_is_true",
    ("docs/outbox.md", "python"): "tests/integration/test_outbox_document.py::test_the_document_is_true",
    ("docs/testing.md", "python"): "tests/integration/test_pytest_plugin.py::test_the_documented_examples_run",
    ("docs/testing.md", "text"): "tests/unit/test_documents.py::test_what_a_failed_assertion_says_is_as_shown",
}

#: Blocks that cannot be run, and why.
NOT_RUN: Final = {
    ("README.md", "text"): "a drawing",
}


def check_commands(block: Block) -> None:
    """A shell reads it, and each program that it names reads its words."""
    if block.language == "sh":
        read = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        if read.returncode != 0:
            raise Mistaken(read.stderr)
    check_lines(block)


def check_json(block: Block) -> None:
    """It is JSON, one value a line or one in all; an order in it is a good one."""
    try:
        values = [json.loads(block.text)]
    except ValueError:
        values = [json.loads(line) for line in block.text.splitlines()]
    for value in values:
        if isinstance(value, dict) and "CustomerNr" in value:
            Order.parse(value)


def check_yaml(block: Block) -> None:
    """It is YAML; a probe in it is that of the manifests."""
    value = YAML(typ="safe").load(block.text)
    [worker] = YAML(typ="safe").load_all((DEPLOY / "kubernetes" / "worker.yaml").read_text())
    [container] = worker["spec"]["template"]["spec"]["containers"]
    for name in [name for name in value if name.endswith("Probe")]:
        there = container[name]
        there["httpGet"]["port"] = value[name]["httpGet"]["port"]  # there it has a name
        if value[name] != there:
            raise Mistaken(f"{name} is another in deploy/kubernetes")


def check_settings(block: Block) -> None:
    """Lines of an env file, with names and values that a worker takes."""
    environment: dict[str, str] = {f"ORDERRELAY_COMPANIES__ACME__{name}": "x" for name in ("COMPANY_API_KEY", "TOKEN")}
    for [line] in map(commands_of, block.text.splitlines()):
        name, _, value = " ".join(line).partition("=")
        check_name(name)
        environment[name] = value
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"ORDERRELAY_COMPANIES__ACME__CONNECT_API_KEY": "x"}).items():
            patch.setenv(name, value)
        load(WorkerSettings)


def check_python(block: Block) -> None:
    """It compiles; a test must run it."""
    compile(block.text, str(block), "exec")
    if (block.document, block.language) not in RUN_BY:
        raise Mistaken("no test runs it")


def check_drawing(block: Block) -> None:
    """There is a picture for the site that was drawn of just this text, by Mermaid itself, which so understood it."""
    digest = hashlib.sha256(block.text.encode()).hexdigest()
    pictures = (ROOT / "docs" / "diagrams").glob("*.svg")
    if not any(f"<!-- drawn of {digest} -->" in picture.read_text() for picture in pictures):
        raise Mistaken("it has no picture: python .ci/diagrams.py draws it")


def check_run(block: Block) -> None:
    """A test runs it, or it is said why none can."""
    if (block.document, block.language) not in {**RUN_BY, **NOT_RUN}:
        raise Mistaken("no test runs it, and nobody has said why")


KINDS: Final[dict[str, Callable[[Block], object]]] = {
    "console": check_commands,
    "csv": check_run,
    "ini": check_settings,
    "json": check_json,
    "mermaid": check_drawing,
    "promql": lambda block: promql_parser.parse(block.text),
    "python": check_python,
    "sh": check_commands,
    "text": check_run,
    "toml": lambda block: tomllib.loads(block.text),
    "yaml": check_yaml,
}


def check(block: Block) -> None:
    """Check one block by its kind."""
    if block.language not in KINDS:
        raise Mistaken("a block says what it is, in a word that test_documents.py knows")
    KINDS[block.language](block)


@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_every_block_is_what_it_says(block: Block) -> None:
    """Commands can be typed, data can be read, programs are run, and drawings have their picture."""
    check(block)


BAD: Final = {
    "no language": "```\nmake demo\n```\n",
    "no known language": "```cobol\nDISPLAY 'A'.\n```\n",
    "no prompt": "```console\nmake demo\n```\n",
    "an option": "```console\n$ orderrelay audit list --no-such\n```\n",
    "a value": "```sh\norderrelay rate set acme --rate fast --reason x\n```\n",
    "something missing": "```console\n$ orderrelay parked drop webshop-1001\n```\n",
    "a subcommand": "```sh\ndocker compose run --rm worker audit burn\n```\n",
    "a shell's mistake": "```sh\nif true; make demo\n```\n",
    "a make target": "```console\n$ make coffee\n```\n",
    "an option behind make": "```console\n$ make bench ARGS=--no-such\n```\n",
    "an option of a module": "```console\n$ python -m tests.bench.pacing limit --no-such\n```\n",
    "a module": "```console\n$ python -m tests.bench.no_such\n```\n",
    "a service": "```sh\ndocker compose logs --follow database\n```\n",
    "a file of deploy": "```sh\ndocker compose --file compose.no.yaml up\n```\n",
    "an extra": "```console\n$ pip install '.[no-such]'\n```\n",
    "a deployment": "```sh\nkubectl exec deploy/worker -- orderrelay doctor\n```\n",
    "a folder": "```sh\nkubectl apply --kustomize deploy/no\n```\n",
    "a unit": "```sh\nsystemctl start orderrelay@1\n```\n",
    "an unknown program": "```console\n$ frobnicate deploy/compose.yaml\n```\n",
    "an exported setting": "```console\n$ export ORDERRELAY_REDIS=x\n```\n",
    "a setting": "```ini\nORDERRELAY_NO_SUCH=1\n```\n",
    "a setting's value": "```ini\nORDERRELAY_MAX_ATTEMPTS=many\n```\n",
    "JSON": "```json\n{'a': 1}\n```\n",
    "an order": '```json\n{"CustomerNr": "013"}\n```\n',
    "TOML": "```toml\na = \n```\n",
    "YAML": "```yaml\na: [\n```\n",
    "a probe": "```yaml\nlivenessProbe: {httpGet: {path: /alive, port: 8901}}\n```\n",
    "PromQL": "```promql\nsum(rate(up[5m])\n```\n",
    "Python": "```python\nprint(\n```\n",
    "Python that nothing runs": "```python\nprint(1)\n```\n",
    "text": "```text\nall is well\n```\n",
    "a table that nothing reads": "```csv\na,b\n```\n",
    "a drawing without its picture": "```mermaid\nflowchart LR\n```\n",
}


@pytest.mark.parametrize("text", BAD.values(), ids=list(BAD))
def test_a_block_that_is_not_what_it_says_is_noticed(text: str) -> None:
    """So the test above means something."""
    [block] = blocks_of(text, "docs/made-up.md")
    with pytest.raises(Exception, match=r"."):
        check(block)


def test_who_is_said_to_run_a_block_is_there() -> None:
    """And reads that document; what is listed is still in it."""
    present = {(block.document, block.language) for block in all_blocks()}
    assert {*RUN_BY, *NOT_RUN} <= present
    assert not RUN_BY.keys() & NOT_RUN.keys()
    for (document, _), test in RUN_BY.items():
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text()
        assert f"def {name}(" in text
        assert Path(document).name in text


def test_every_picture_is_of_a_drawing_that_is_there() -> None:
    """What is not drawn any more has no picture."""
    assert len(all_blocks("mermaid")) == len(list((ROOT / "docs" / "diagrams").iterdir()))


def test_all_files_of_the_files_document_are_made() -> None:
    """Each stands under its name, by which its test finds it."""
    text = (ROOT / "docs" / "files.md").read_text()
    assert len(re.findall(r"^`[\w.]+`:\n\n```(?:csv|json)$", text, re.MULTILINE)) == len(
        [block for block in all_blocks("csv", "json") if block.document == "docs/files.md"]
    )


def test_commands_within_sentences_exist() -> None:
    """Prose may leave out what a command requires, and say `ID` or `…` for what the reader knows."""
    command = command_line()
    for document, span in spans():
        words = words_of(span)
        if words is None or "…" in words or re.search(r"\b[A-Z]+\b", words):
            continue
        try:
            parse(command, commands_of(words)[0])
        except (Exception, SystemExit) as error:
            if type(error).__name__ != "MissingParameter":  # typer's own, which it does not export
                raise AssertionError(f"{document}: {span}") from error


def test_what_a_failed_assertion_says_is_as_shown() -> None:
    """docs/testing.md shows it word for word."""
    [shown] = [block for block in all_blocks("text") if block.document == "docs/testing.md"]
    row: dict[str, Any] = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350}
    producer = InMemoryOrderProducer()
    producer.enqueue(
        {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "ExternalId": "webshop-1001", "InvoiceRows": [row]}
    )
    with pytest.raises(AssertionError) as raised:
        producer.assert_enqueued(external_id="webshop-1002", customer="013")
    assert str(raised.value).strip() == shown.text.strip()
