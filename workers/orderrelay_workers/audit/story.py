"""One order's story in words: what happened when, where it is, and what comes next. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from orderrelay_shared.states import JobState, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orderrelay_workers.audit.queries import AttemptLine, EventLine, ResultLine, Story

#: Kinds of events in words for somebody who reads one order's story.
_EVENTS: Final = {
    "cancel_refused": "its producer asked to cancel it, and nothing was done",
    "cancelled_by_producer": "its producer cancelled it",
    "conflict": "another order came under this ExternalId with other content; the first stays",
    "deadline_at_risk": "it will hardly be sent before its deadline",
    "deadline_passed": "its deadline passed before it could be sent",
    "doubled": "the vendor has this order more than once",
    "found": "a look-up found the order at the vendor",
    "gave_up": "the look-up kept failing for too long, and was given up",
    "late_doubt": "an earlier request was answered late, and may have created the order",
    "late_find": "a look-up found the order when nobody waited for it any more",
    "late_success": "an earlier request was answered late: it created the order",
    "resent_by_person": "a person had it sent again",
    "resolved_by_person": "a person looked, and found the order at the vendor",
    "dropped_by_person": "a person ended it",
    "vendor_id_held": "the vendor named an id that another order already has",
}

#: Of an event's detail, what is for programs only.
_NOT_TOLD: Final = frozenset({"body_base64", "fields_base64", "content_digest", "entry", "external_id"})


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the timeline. `what` names the step, `who` did it, `text` says how it went."""

    at: datetime
    what: str
    text: str
    who: str
    alarm: bool = False


def timeline(story: Story) -> list[Step]:
    """Everything that happened to an order, oldest first."""
    job = story.job
    steps = [
        Step(job.accepted_at, "accepted", "taken into the intake", "producer"),
        Step(job.booked_at, "booked", "written into the ledger", "worker"),
    ]
    steps += [
        Step(revision.created_at, f"revision {revision.number}", "the order was corrected", "operator")
        for revision in story.revisions
        if revision.number > 1
    ]
    steps += [_attempt(attempt) for attempt in story.attempts]
    steps += _sent_again(story)
    steps += [_result(result, job.vendor_id) for result in story.results]
    steps += [_event(event) for event in story.events]
    if job.state is not JobState.WAITING or job.requests:
        steps.append(Step(job.since, str(job.state), job.reason or "", "ledger"))
    return sorted(steps, key=lambda step: step.at)  # stable: at the same instant, in the order above


def _attempt(attempt: AttemptLine) -> Step:
    what = f"{'attempt' if attempt.kind == 'order' else 'look-up'} {attempt.number}"
    if attempt.ended_at is None:
        told = ["perhaps sent, and nobody knows how it ended"]
    else:
        took = max(0.0, (attempt.ended_at - attempt.began_at).total_seconds())
        told = ["sent" if attempt.sent else "not sent", f"{took:.2f} s"]
        told.append("no answer" if attempt.http_status is None else f"HTTP {attempt.http_status}")
    reason = attempt.reason or ""
    told.append(reason if reason.startswith(attempt.outcome) else attempt.outcome)
    text = ", ".join(told) + (f": {reason}" if reason and reason != told[-1] else "")
    return Step(attempt.began_at, what, text, attempt.worker)


def _sent_again(story: Story) -> list[Step]:
    """Where look-ups let an unknown order be sent again, at the end of the last of them."""
    steps: list[Step] = []
    absent: list[AttemptLine] = []
    for attempt in sorted(story.attempts, key=lambda attempt: attempt.began_at):
        if attempt.kind == "lookup":
            absent = [*absent, attempt] if attempt.outcome == "absent" else absent
            continue
        if len(absent) >= 2:
            at = absent[-1].ended_at or absent[-1].began_at
            # With an event between, a person or a late answer may have decided instead.
            if not any(at <= event.at <= attempt.began_at for event in story.events):
                text = "not created: look-ups, far enough apart, found nothing; sent again"
                steps.append(Step(at, "waiting", text, "ledger"))
        absent = []
    return steps


@dataclass(frozen=True, slots=True)
class Place:
    """That an order shared its request. `number` is its own place, from 1; None if the answer does not tell."""

    number: int | None
    orders: int

    def __str__(self) -> str:
        return f"{self.number or 'one'} of {self.orders} orders in one request"


def place(story: Story) -> Place | None:
    """The place that an order has in the request that created it; None if it went alone, or is not created."""
    places = [_place(result, story.job.vendor_id) for result in story.results if result.properties["success"]]
    return places[-1] if places else None


def _place(result: ResultLine, vendor_id: int | None) -> Place | None:
    ids = result.properties.get("keys")
    if not isinstance(ids, list) or len(cast("list[object]", ids)) < 2:
        return None
    named = cast("list[object]", ids)
    return Place(named.index(vendor_id) + 1 if vendor_id in named else None, len(named))


def _result(result: ResultLine, vendor_id: int | None) -> Step:
    """What the vendor said; of an answer to several orders, what it says of this one."""
    properties = dict(result.properties)
    told = [f"Success {'true' if properties['success'] else 'false'}"]
    if (shared := _place(result, vendor_id)) is not None:
        told.append(str(shared))
        if shared.number is not None:
            for name in ("keys", "strings"):
                each = properties.get(name)
                if isinstance(each, list) and len(cast("list[object]", each)) == shared.orders:
                    properties[name] = cast("list[object]", each)[shared.number - 1]
    told += [
        f"{label} {_words(properties.get(name))}{' (of them all)' if shared and name == 'string_value' else ''}"
        for label, name in _TOLD
        if properties.get(name)
    ]
    return Step(result.received_at, "answer", ", ".join(told), "vendor")


_TOLD: Final = (
    ("order number", "strings"),
    ("id", "keys"),
    ("reference", "string_value"),
    ("ErrorNumber", "error_number"),
    ("ErrorMessage:", "error_message"),
    ("InfoMessage:", "info_message"),
    ("Exception:", "exception"),
)


#: So many of a list are told: the answer to a request names all orders in it.
_MEMBERS_TOLD: Final = 5


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        members = [str(member) for member in cast("list[object]", value)]
        more = [f"and {len(members) - _MEMBERS_TOLD} more"] if len(members) > _MEMBERS_TOLD else []
        return ", ".join(members[:_MEMBERS_TOLD] + more)
    if isinstance(value, bool):
        return "yes" if value else "no"
    # The vendor's texts also have line ends written out, as a backslash and a letter.
    return " ".join(str(value).replace("\\r", " ").replace("\\n", " ").split())


def _event(event: EventLine) -> Step:
    text = _EVENTS.get(event.kind, event.kind.replace("_", " "))
    if isinstance(event.detail, dict):
        detail = cast("dict[str, Any]", event.detail)
        told = detail_words({name: value for name, value in detail.items() if name not in _NOT_TOLD})
        text += f" ({', '.join(told)})" if told else ""
    return Step(event.at, "ALARM" if event.alarm else "event", text, event.actor, event.alarm)


def detail_words(detail: Mapping[str, object]) -> list[str]:
    """An event's detail, a name and its value each; what is not known is left out."""
    return [f"{name.replace('_', ' ')} {_words(value)}" for name, value in detail.items() if value not in (None, "")]


def outlook(story: Story, *, has_lookup: bool) -> str:
    """Where the order is and what happens next, in a few sentences.

    Args:
        story: The order's.
        has_lookup: Whether the settings have a look-up by ExternalId.
    """
    told = _where(story, has_lookup=has_lookup)
    alarms = sorted({event.kind.replace("_", " ") for event in story.events if event.alarm})
    if alarms:
        told += f" Somebody must look at it: alarm {', '.join(alarms)}; see above."
    return told


def _where(story: Story, *, has_lookup: bool) -> str:
    job = story.job
    because = f" ({job.reason})" if job.reason else ""
    match job.state:
        case JobState.SUCCEEDED:
            if job.order_number:
                return f"The order is in SoftOne GO as order {job.order_number}{_id(story)}. Nothing more happens."
            return (
                f"The order is in SoftOne GO{_id(story)}; its order number was not told. Nothing more happens."
            )  # fmt: skip
        case JobState.WAITING:
            return f"The order is not in SoftOne GO{because}. {_when(story)}{_until(story)}"
        case JobState.IN_PROGRESS:
            return (
                "A worker is sending the order right now. "
                f"At the latest at {_utc(job.lease_until)} it is known how that ended, or the order is looked up."
            )
        case JobState.UNKNOWN:
            return f"It is not known whether the order is in SoftOne GO{because}. {_lookup(story, has_lookup)}"
        case JobState.REJECTED:
            return (
                f"SoftOne GO refused the order{because}, and does not have it. Nothing more happens by itself. If the "
                "cause is mended in SoftOne GO: orderrelay parked resend. If the order is wrong: enqueue the corrected "
                "one under a new ExternalId."
            )
        case JobState.PARKED if story.events and story.events[-1].kind == "deadline_passed":
            return (
                f"The order is parked for a person{because}. It is not sent any more by itself: somebody must decide "
                "whether it is to be sent nevertheless: orderrelay parked resend, or drop."
            )
        case JobState.PARKED:
            return (
                f"The order is parked for a person{because}. It is not sent again by itself: somebody must find out "
                "whether SoftOne GO has it, and say so: orderrelay parked resolve, or drop."
            )
        case JobState.CANCELLED:
            return f"The order was cancelled{because}. {_was_sent(story)} Nothing more happens."


def _was_sent(story: Story) -> str:
    """What is known of an order that is given up, by the last request that left for it."""
    left = [attempt for attempt in story.attempts if attempt.kind == "order" and attempt.sent is not False]
    if not left:
        return "It was not sent."
    times = "once" if len(left) == 1 else f"{len(left)} times"
    last = max(left, key=lambda attempt: attempt.began_at)
    match last.outcome:
        case Outcome.REJECTED:
            return f"It was sent {times}, and SoftOne GO refused it."
        case Outcome.UNKNOWN | Outcome.CREATED:
            return f"It was sent {times}, and it is not certain that SoftOne GO does not have it."
        case _:
            return f"It was sent {times}, and SoftOne GO did not take it."


def _id(story: Story) -> str:
    return f" (id {story.job.vendor_id})" if story.job.vendor_id is not None else ""


def _when(story: Story) -> str:
    job = story.job
    if story.paused_reason is not None:
        return (
            f"Company {job.company} is paused ({story.paused_reason}): it is sent once somebody runs "
            f"orderrelay resume {job.company}."
        )
    if job.due_at > story.read_at:
        return f"It is sent after {_utc(job.due_at)}."
    return "It is due: a worker sends it as soon as the company's rate allows."


def _until(story: Story) -> str:
    deadline = story.job.deadline
    return "" if deadline is None else f" After {_utc(deadline)} it is not sent any more, but parked."


def _lookup(story: Story, has_lookup: bool) -> str:
    job = story.job
    if not has_lookup:
        return "It is not sent again blindly; as there is no look-up, it is parked for a person."
    then = {"waiting": "is sent again", "rejected": "counts as rejected", "parked": "is parked for a person"}
    absent = then.get(job.if_absent or "waiting", "is decided anew")
    failing = ""
    if job.lookup_failing_since is not None:  # also where it finds nothing, and not a surely known order either
        failing = f" No look-up has told anything certain since {_utc(job.lookup_failing_since)}."
    if story.paused_reason is not None:
        failing += f" While company {job.company} is paused ({story.paused_reason}), it is not looked up either."
    due = f"at {_utc(job.due_at)}" if job.due_at > story.read_at else "now"
    return (
        f"It is not sent again blindly: it is looked up by its ExternalId, next {due}. If it is found, it has "
        f"succeeded; if it is not there twice, it {absent}.{failing}"
    )


def _utc(at: datetime | None) -> str:
    return "an unknown time" if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")
