"""docs/files.md: its files are made, and its commands give what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from orderrelay_producers.commands import enqueue, status
from orderrelay_producers.files.columns import ORDER_KEY, ROW_PREFIX, read_header
from orderrelay_shared.order_problems import vendor_name
from orderrelay_shared.orders import Order, OrderRow

TEXT = (Path(__file__).parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
CONSOLES = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

app = typer.Typer()
app.command()(enqueue)
app.command()(status)


@pytest.mark.parametrize("console", CONSOLES)
def test_the_commands_say_what_is_shown(
    console: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who makes the same files and types the same sees the same."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    seen = ""
    for command in re.findall(r"^\$ orderrelay (.*)$", console, re.MULTILINE):
        seen += f"$ orderrelay {command}\n{CliRunner().invoke(app, shlex.split(command)).output}"
    assert seen == console


def test_the_columns_are_all_there() -> None:
    """The lists of columns are those that are taken, each once, of the order and of its rows."""
    _, of_order, of_row = re.split(r"<!-- order columns -->|<!-- row columns -->", TEXT.partition("<!-- end")[0])
    order_names, row_names = (re.findall(r"`([\w.]+\w)`", part) for part in (of_order, of_row))
    known = {vendor_name(name) for name in Order.model_fields} - {"InvoiceRows"}
    assert sorted(order_names) == sorted({*known, ORDER_KEY})
    assert sorted(row_names) == sorted(
        (ROW_PREFIX if vendor_name(name) in known else "") + vendor_name(name) for name in OrderRow.model_fields
    )
    columns = read_header(1, order_names + row_names, None)
    assert {column.name for column in columns.row} == {vendor_name(name) for name in OrderRow.model_fields}
    assert {column.name for column in columns.head} == known
