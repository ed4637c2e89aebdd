"""The simulated vendor as tests of other services see it: faults in plain words, and what was created."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.simulator import FAULTS, Credentials
from orderrelay_workers.testing import FAULT_NAMES, PlanInvalid, Vendor, running_vendor
from tests.unit.simulator_client import KEYS, order, post_order

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    """A vendor by itself."""
    with running_vendor(credentials=Credentials(token=KEYS["token"])) as vendor:
        yield vendor


def statuses(vendor: Vendor, *external_ids: str) -> list[int]:
    """The HTTP status that each of these orders is answered with."""
    return [post_order(vendor.url, order(external_id)).status for external_id in external_ids]


def test_every_plain_name_is_a_fault_of_the_catalogue() -> None:
    """And none of them stands in the catalogue itself, where it might mean something else."""
    assert {name for name, known in FAULT_NAMES.items() if known not in FAULTS or name in FAULTS} == set()


def test_a_fault_strikes_so_often_and_counts_on_when_another_is_told(vendor: Vendor) -> None:
    """Telling of one fault does not begin the other anew."""
    vendor.fault("server error after creating", times=2, external_id="A")
    assert statuses(vendor, "A-1") == [500]
    vendor.fault("503-before", times=1)
    assert statuses(vendor, "A-2", "A-3", "A-4") == [500, 503, 200]
    assert vendor.struck == {"500-after": 2, "503-before": 1}
    assert [len(vendor.created(external_id)) for external_id in ("A-1", "A-2", "A-3", "A-4")] == [1, 1, 0, 1]


def test_faults_are_cleared(vendor: Vendor) -> None:
    """The next request finds a vendor in good health."""
    vendor.fault("server error before creating")
    assert statuses(vendor, "A-1") == [500]
    vendor.clear_faults()
    assert statuses(vendor, "A-1") == [200]


def test_an_unknown_fault_is_told_with_the_nearest(vendor: Vendor) -> None:
    """Of the plain names or the catalogue; where nothing is like it, with all plain ones."""
    with pytest.raises(PlanInvalid, match="did you mean 'timeout after creating'"):
        vendor.fault("time out after create")
    with pytest.raises(PlanInvalid, match="did you mean '502-after'"):
        vendor.fault("502-aftr")
    with pytest.raises(PlanInvalid, match="there are 'timeout before creating', "):
        vendor.fault("???")


def test_a_fault_that_cannot_strike_so_is_refused(vendor: Vendor) -> None:
    """A login has no ExternalId; shares of the same requests cannot be more than all of them."""
    with pytest.raises(PlanInvalid, match="logins, which have no ExternalId"):
        vendor.fault("login fails", external_id="A")
    vendor.fault("500-before", share=0.6)
    with pytest.raises(PlanInvalid, match=r"add up to 1\.2"):
        vendor.fault("502-before", share=0.6)


def test_the_vendor_is_away_for_a_while(vendor: Vendor) -> None:
    """Connections are refused within the block, and taken after it."""
    with vendor.away(), pytest.raises(ConnectionRefusedError):
        post_order(vendor.url, order("A-1"))
    assert statuses(vendor, "A-1") == [200]


def test_what_was_not_created_exactly_once_is_named(vendor: Vendor) -> None:
    """Missing ones of those asked for, and every doubled one."""
    statuses(vendor, "A-1", "A-2")
    vendor.assert_created_once("A-1", "A-2")
    statuses(vendor, "A-1")
    with pytest.raises(AssertionError) as raised:
        vendor.assert_created_once("A-2", "A-3")
    assert str(raised.value).splitlines() == ["not created: A-3", "created 2 times: A-1"]
    assert vendor.requests() == 3
