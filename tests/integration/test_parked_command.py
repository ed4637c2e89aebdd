"""The command `orderrelay parked list`, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.booked_orders import Ledger, json_lines, orderrelay

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The vendor says that it created the order, and names nothing: parked if it is not found.
_NAMES_NOTHING = b'{"Success":true,"Keys":null}'


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger, named in the environment."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    opened = Ledger(database_url)
    yield opened
    opened.engine.dispose()


def park(ledger: Ledger, external_id: str, company: str = "acme") -> None:
    """Book an order that ends up parked."""
    ledger.book(external_id, company=company)
    claimed = ledger.claim(company, lease_seconds=0.0)
    ledger.settle(claimed, _NAMES_NOTHING)
    for _ in range(2):
        ledger.look_up(b"[]", company=company)


def test_a_parked_order_is_told_with_its_reason(ledger: Ledger) -> None:
    """The line names company, ExternalId, attempts, and why the order stopped."""
    park(ledger, "A-1")
    result = orderrelay("parked", "list")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()[1:2]
    assert line.split()[1:4] == ["acme", "A-1", "1"]
    assert "two look-ups found nothing" in " ".join(
        word for text in result.stdout.splitlines() for word in text.split()
    )


def test_only_parked_orders_are_listed(ledger: Ledger) -> None:
    """Orders in other states are left out."""
    ledger.book("A-1")
    result = orderrelay("parked", "list")
    assert (result.exit_code, result.stdout) == (0, "no parked orders\n")


def test_the_longest_parked_comes_first(ledger: Ledger) -> None:
    """With `--json` there is one object a line, the longest parked first."""
    for name in ("A-1", "A-2", "A-3"):
        park(ledger, name)
    lines = json_lines(orderrelay("parked", "list", "--json"))
    assert [line["external_id"] for line in lines] == ["A-1", "A-2", "A-3"]
    assert {line["state"] for line in lines} == {"parked"}


def test_a_page_goes_on_behind_its_cursor(ledger: Ledger) -> None:
    """`--after` with a line's cursor begins behind that line."""
    for name in ("A-1", "A-2", "A-3"):
        park(ledger, name)
    first = json_lines(orderrelay("parked", "list", "--limit", "2", "--json"))
    rest = json_lines(orderrelay("parked", "list", "--after", first[-1]["cursor"], "--json"))
    assert [line["external_id"] for line in rest] == ["A-3"]


def test_one_company_only(ledger: Ledger) -> None:
    """`--company` leaves the others out."""
    park(ledger, "A-1", "acme")
    park(ledger, "B-1", "beta")
    lines = json_lines(orderrelay("parked", "list", "--company", "BETA", "--json"))
    assert [line["external_id"] for line in lines] == ["B-1"]
