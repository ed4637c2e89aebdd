"""The books as one HTML page that needs nothing from elsewhere, light or dark as the reader's system is."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final, cast

from orderrelay_workers.simulator.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orderrelay_workers.simulator.books import Books
    from orderrelay_workers.simulator.plan import FaultPlan, Rule

#: Nothing may be loaded or sent anywhere but here.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

_DOUBLED_SHOWN: Final = 50

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6b7c;--line:#dfe4ea;--paper:#f6f7f9;--card:#fff;--good:#18794e;
--bad:#c4272e;--bad-paper:#fdecec;--accent:#2a5bd7}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#98a5b5;--line:#2b333e;--paper:#12161c;--card:#1a2028;
--good:#4cc38a;--bad:#ff7b80;--bad-paper:#3a1a1d;--accent:#8fb0ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:22px;margin:0}h2{font-size:16px;margin:32px 0 10px}
p{margin:4px 0;color:var(--soft)}
.counts{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:22px 0 0;padding:0}
.counts div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.counts dt{color:var(--soft);font-size:13px}
.counts dd{margin:2px 0 0;font-size:25px;font-weight:600;font-variant-numeric:tabular-nums}
.counts .bad{background:var(--bad-paper);border-color:var(--bad)}.counts .bad dd,.bad-text{color:var(--bad)}
.counts .good dd{color:var(--good)}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:7px 14px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:500}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}td.wide{white-space:normal}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
tr.bad td{background:var(--bad-paper);color:var(--bad)}
.empty{padding:12px 14px;color:var(--soft)}
a{color:var(--accent)}
"""

# The part that changes is fetched again, so that the page neither flickers nor jumps.
_SCRIPT: Final = """
setInterval(async()=>{if(document.hidden)return;try{const r=await fetch('/');if(!r.ok)return;
const d=new DOMParser().parseFromString(await r.text(),'text/html');
document.querySelector('main').replaceWith(d.querySelector('main'))}catch(e){}},2000)
"""


def render(books: Books, plan: FaultPlan) -> str:
    """The page."""
    counts = books.counts()
    doubled = books.doubled()
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Simulator books</title>'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body><main>'
        "<h1>SoftOne GO simulator</h1>"
        "<p>What this stand-in for the vendor has created and seen. "
        'The same as JSON: <a href="/books">/books</a>, <a href="/arrivals">/arrivals</a>.</p>'
        f"{_cards(counts)}{_doubled(doubled)}"
        f"<h2>Faults that struck</h2>{_faults(cast('Mapping[str, int]', counts['faults']))}"
        f"<h2>Answers</h2>{_answers(cast('Mapping[str, Mapping[str, int]]', counts['statuses']))}"
        f"<h2>Latest orders</h2>{_latest(books, doubled)}"
        f"<h2>Plan</h2>{_plan(plan)}"
        f"</main><script>{_SCRIPT}</script></body></html>"
    )


def _cards(counts: Mapping[str, object]) -> str:
    requests = cast("Mapping[str, int]", counts["requests"])
    doubled = cast("int", counts["doubled"])
    cards: list[tuple[str, object, str]] = [
        ("Orders created", counts["orders"], ""),
        ("ExternalIds", counts["external_ids"], ""),
        ("Doubled ExternalIds", doubled, "bad" if doubled else "good"),
        ("Order requests", requests.get("order", 0), ""),
        ("Look-ups", requests.get("lookup", 0), ""),
        ("Logins", requests.get("login", 0), ""),
        ("In flight (most)", f"{counts['in_flight']} ({counts['most_in_flight']})", ""),
    ]
    if counts["without_external_id"]:
        cards.append(("Without ExternalId", counts["without_external_id"], "bad"))
    if requests.get("followed_redirect"):
        cards.append(("Followed redirects", requests["followed_redirect"], "bad"))
    return (
        '<dl class="counts">'
        + "".join(
            f'<div class="{tone}"><dt>{title}</dt><dd>{_grouped(value)}</dd></div>' for title, value, tone in cards
        )
        + "</dl>"
    )


def _grouped(value: object) -> str:
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else escape(str(value))


def _doubled(doubled: Mapping[str, list[int]]) -> str:
    if not doubled:
        return ""
    rows = [
        f'<tr class="bad"><td><code>{escape(external_id)}</code></td><td class="number">{len(vendor_ids)}</td>'
        f'<td class="wide">{", ".join(map(str, vendor_ids))}</td></tr>'
        for external_id, vendor_ids in list(doubled.items())[:_DOUBLED_SHOWN]
    ]
    more = len(doubled) - len(rows)
    return (
        '<h2 class="bad-text">Doubled: more than one order under one ExternalId</h2>'
        + _table(("ExternalId", "#Orders", "Ids"), rows)
        + (f"<p>and {more} more: <code>/books?orders=1</code> has all</p>" if more > 0 else "")
    )


def _faults(faults: Mapping[str, int]) -> str:
    rows = [
        f'<tr><td><code>{escape(name)}</code></td><td class="number">{_grouped(count)}</td>'
        f'<td class="wide">{escape(_sentence(name))}</td></tr>'
        for name, count in faults.items()
    ]
    return _table(("Fault", "#Times", "What a client sees"), rows) if rows else _empty("None so far.")


def _sentence(name: str) -> str:
    if name in FAULTS:
        return FAULTS[name].sentence
    return "429: more orders within a second than the plan's hidden limit; the order was not created."


def _answers(statuses: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        f'<tr><td>{escape(kind)}</td><td>{escape(status)}</td><td class="number">{_grouped(count)}</td></tr>'
        for kind, by_status in statuses.items()
        for status, count in by_status.items()
    ]
    return _table(("Request", "Status", "#Times"), rows) if rows else _empty("None so far.")


def _latest(books: Books, doubled: Mapping[str, list[int]]) -> str:
    rows = [
        f'<tr{" class=bad" if order.external_id in doubled else ""}><td class="number">{order.number}</td>'
        f'<td class="number">{order.vendor_id}</td><td><code>{escape(order.external_id) or "-"}</code></td>'
        f'<td class="number">{order.company}</td><td class="number">{order.rows}</td>'
        f"<td>{order.created_at:%Y-%m-%d %H:%M:%S} UTC</td><td><code>{order.body_digest.hex()[:12]}</code></td></tr>"
        for order in books.latest()
    ]
    titles = ("#Ordernr", "#Id", "ExternalId", "#Company", "#Rows", "Created", "Body SHA-256")
    return _table(titles, rows) if rows else _empty("None so far. Post one, and it appears here.")


def _plan(plan: FaultPlan) -> str:
    latency = plan.latency_ms
    latency_text = f"{latency[0]:g} to {latency[1]:g}" if isinstance(latency, tuple) else f"{latency:g}"
    if plan.latency_rise_ms:
        rise = f"{plan.latency_rise_ms:g} ms for each order request at work above {plan.latency_rise_above}"
        latency_text = f"{latency_text} ms, and {rise}"
    else:
        latency_text = f"{latency_text} ms"
    settings = [
        ("Latency", latency_text),
        ("Look-up lag", f"{plan.lookup_lag_seconds:g} s"),
        ("Failing look-ups", f"{plan.lookup_failing_share:.1%}"),
        ("Hidden rate limit", _limit(plan)),
        ("Seed", str(plan.seed)),
        *(
            ()
            if plan.away_seconds is None
            else [("Connections refused", "from {:g} to {:g} s".format(*plan.away_seconds))]
        ),
        *((rule.fault, _when(rule)) for rule in plan.rules),
    ]
    rows = [f'<tr><td>{escape(name)}</td><td class="wide">{escape(text)}</td></tr>' for name, text in settings]
    return _table(("Setting or fault", "Value"), rows)


def _limit(plan: FaultPlan) -> str:
    steps = plan.rate_limit_per_second
    if not isinstance(steps, tuple):
        return "none" if steps is None else f"{steps} orders/s"
    return ", ".join(f"{limit or 'no'} orders/s from {seconds:g} s" for seconds, limit in steps)


def _when(rule: Rule) -> str:
    if rule.share is not None:
        often = f"{rule.share:.2%} of requests"
    elif rule.every is not None:
        often = f"each {rule.every}. request"
    else:
        often = "always"
    filters = [
        f"{title} begins {text!r}"
        for title, text in (("ExternalId", rule.external_id_prefix), ("CustomerNr", rule.customer_nr_prefix))
        if text is not None
    ]
    # The key itself is a secret of the company, so the page says only that there is one.
    filters += ["one company only"] if rule.company_key is not None else []
    filters += [f"at most {rule.times} times"] if rule.times is not None else []
    filters += [f"from {rule.from_seconds:g} s"] if rule.from_seconds else []
    filters += [f"until {rule.to_seconds:g} s"] if rule.to_seconds is not None else []
    return "; ".join([often, *filters])


def _table(titles: Iterable[str], rows: Iterable[str]) -> str:
    """Titles that begin with "#" stand over numbers."""
    head = "".join(
        f'<th class="number">{title[1:]}</th>' if title.startswith("#") else f"<th>{title}</th>" for title in titles
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _empty(text: str) -> str:
    return f'<div class="scroll"><div class="empty">{text}</div></div>'
