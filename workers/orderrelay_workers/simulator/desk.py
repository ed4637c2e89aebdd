"""The simulator's own addresses, which the vendor does not have: its books, and the control of its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec
from aiohttp import web

from orderrelay_workers.simulator import page
from orderrelay_workers.simulator.plan import FaultPlan, PlanInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_workers.simulator.books import Books
    from orderrelay_workers.simulator.vendor import Target

_TRUE: Final = ("1", "true", "yes")


class Desk:
    """Shows the books and takes orders about the plan.

    Args:
        books: What is shown.
        plan: Tells the plan in force.
        set_plan: Puts another in force.
        reset: Clears the books.
    """

    def __init__(
        self,
        books: Books,
        plan: Callable[[], FaultPlan],
        set_plan: Callable[[FaultPlan], None],
        reset: Callable[[], None],
    ) -> None:
        self._books = books
        self._plan = plan
        self._set_plan = set_plan
        self._reset = reset

    async def show_page(self, _request: web.BaseRequest, _target: Target) -> web.StreamResponse:
        """GET /: the books as a page."""
        return web.Response(
            text=page.render(self._books, self._plan()),
            content_type="text/html",
            headers={
                "Content-Security-Policy": page.CONTENT_SECURITY_POLICY,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            },
        )

    async def show_books(self, _request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """GET /books: counts and the doubled list as JSON; `?orders=1` adds every ExternalId and its ids."""
        shown: dict[str, object] = {
            **self._books.counts(),
            "doubled_orders": self._books.doubled(),
            "plan": self._shown_plan(),
        }
        if target.parameters.get("orders", "").lower() in _TRUE:
            shown["created"] = self._books.created()
        return _json(shown)

    async def show_arrivals(self, _request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """GET /arrivals: when order requests came in; `?kind=lookup` or `login` for the others.

        `&companyApiKey=…` shows those of one company only.
        """
        kind, key = target.parameters.get("kind", "order"), target.keys[0] or None
        return _json(
            {
                "kind": kind,
                "monotonic_seconds": self._books.arrivals(kind, company_key=key),
                "epoch_seconds": self._books.arrivals(kind, company_key=key, wall=True),
                "statuses": self._books.statuses(kind, company_key=key),
            }
        )

    async def control(self, request: web.BaseRequest, _target: Target) -> web.StreamResponse:
        """POST /control: `{"plan": {...}}`, or single properties of a plan, and `"reset": true` to clear the books."""
        if "json" not in request.headers.get("Content-Type", ""):
            # A page of another site can post a form here, but not JSON.
            return _json({"error": "send application/json"}, 415)
        try:
            wanted = msgspec.json.decode(await request.content.read(), type=dict[str, object])
            plan = self._plan()
            reset = wanted.pop("reset", False)
            if "plan" in wanted:
                plan = FaultPlan.from_json(msgspec.json.encode(wanted.pop("plan")))
            if wanted:
                plan = plan.changed(**wanted)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _json({"error": "send one JSON object"}, 400)
        except PlanInvalid as error:
            return _json({"error": str(error)}, 400)
        if plan is not self._plan():
            self._set_plan(plan)
        if reset:
            self._reset()
        return _json({"plan": self._shown_plan()})

    def _shown_plan(self) -> dict[str, object]:
        shown = cast("dict[str, object]", self._plan().model_dump(mode="json", exclude_none=True))
        for rule in cast("list[dict[str, object]]", shown["rules"]):
            if "company_key" in rule:
                rule["company_key"] = "***"
        return shown


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", charset="utf-8"
    )
