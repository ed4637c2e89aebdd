"""The commands that documents show are run, on a real ledger with the order and the company that they speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.documents import all_blocks
from tests.integration.booked_orders import Ledger, created, orderrelay
from tests.servers import free_port
from tests.shown_commands import check_lines

if TYPE_CHECKING:
    from pathlib import Path

#: Commands that this test leaves out, by their first words, and why.
LEFT_OUT: Final = {
    ("cancel",): "waits for the answer of a worker",
    ("demo",): "has tests of its own, and takes half a minute",
    ("doctor",): "waits for the vendor; has tests of its own",
    ("enqueue", "apart.csv"): "is run by the test of docs/files.md",
    ("enqueue", "mistakes.csv"): "is run by the test of docs/files.md",
    ("enqueue", "orders.json"): "is run by the test of docs/files.md",
    ("outbox",): "needs a database of a service; docs/outbox.md is run by its own test",
    ("simulator",): "runs until it is stopped",
    ("status",): "waits for the answer of a worker",
    ("watch", "acme"): "runs until it is stopped",
    ("worker",): "runs until it is stopped",
}

#: Commands that do not end with 0 here: how they do, and why.
ENDS: Final = {
    "audit show 211 --company acme": (1, "no order has that number until one is resolved to it, further down"),
    "enqueue orders.csv --encoding cp1252 --decimal comma": (1, "the file is UTF-8, so it says something else then"),
    "enqueue orders.jsonl --company acme --priority bulk --from-line 20001": (2, "the file is shorter here"),
    "parked drop webshop-1001 --why cancelled by the customer --yes": (1, "it was resolved just before"),
    "resume acme --same-company": (1, "its key did not change"),
}


def commands() -> list[list[str]]:
    """Every command of ours in a block of any document, but those that are left out, once each."""
    shown = [words for block in all_blocks("console", "sh") for words in check_lines(block)]
    left_out = [words for words in shown if any(words[: len(begin)] == [*begin] for begin in LEFT_OUT)]
    return [list(words) for words in dict.fromkeys(map(tuple, shown)) if list(words) not in left_out]


@pytest.fixture
def _shop(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands need: settings, files, a parked order, and one that the vendor has numbered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.setenv("ORDERRELAY_BASE_URL", f"http://127.0.0.1:{free_port()}")
    for name in ("COMPANY_API_KEY", "CONNECT_API_KEY", "TOKEN"):
        monkeypatch.setenv(f"ORDERRELAY_COMPANIES__ACME__{name}", "try")
    (tmp_path / "orders.jsonl").write_text(all_blocks("json")[0].text)
    (tmp_path / "orders.csv").write_text(all_blocks("csv")[0].text)
    ledger = Ledger(database_url)
    ledger.book("webshop-1000")
    ledger.answer(created("210"))
    ledger.book("webshop-1001")
    ledger.settle(ledger.claim(lease_seconds=0.0), b'{"Success": true, "ErrorNumber": 0, "Keys": [], "Strings": []}')
    ledger.look_up(b"[]")
    ledger.look_up(b"[]")
    ledger.engine.dispose()


@pytest.mark.usefixtures("_shop")
def test_every_command_that_is_shown_can_be_run() -> None:
    """On both databases, each with the exit code that is expected of it; a traceback fails."""
    ends = {" ".join(words): orderrelay(*words).exit_code for words in commands()}
    assert {line: code for line, code in ends.items() if code != 0} == {line: code for line, (code, _) in ENDS.items()}


def test_nothing_is_left_out_that_is_not_shown() -> None:
    """The list above is no longer than it must be."""
    shown = [words for block in all_blocks("console", "sh") for words in check_lines(block)]
    assert [begin for begin in LEFT_OUT if not any(words[: len(begin)] == [*begin] for words in shown)] == []
