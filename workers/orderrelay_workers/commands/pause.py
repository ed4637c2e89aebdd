"""`orderrelay pause` and `orderrelay resume`: stop and start one company's orders; begin and end cautious mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from orderrelay_workers.gate import Gate
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.settings import WorkerSettings

_Company = Annotated[str, typer.Argument(help="Alias of the company.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object as the last line.")]


def pause(
    company: _Company = "",
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who see it paused; default: who paused it.")] = "",
    begin_cautious: Annotated[
        bool,
        typer.Option(
            "--begin-cautious", help="Instead: have every order of all companies looked up before it is sent."
        ),
    ] = False,
    as_json: _Json = False,
) -> None:
    """Stop sending a company's orders. They are still accepted and booked, and wait; what is out comes to its end.

    --begin-cautious is for a database that may have forgotten what was sent, such as a restored backup; workers begin
    that by themselves where they notice it. End it with: orderrelay resume --end-cautious

    Exit code: 0 paused, 1 unknown company or paused already for another reason, 2 usage, 3 database unreachable.
    Example: orderrelay pause acme --reason "stock-taking until Monday"
    Example: orderrelay pause --begin-cautious --reason "restored last night's backup"
    """
    from orderrelay_workers.commands import cautious  # noqa: PLC0415  heavy; --help must be quick

    cautious.require_one(company, "--begin-cautious", given=begin_cautious)
    if begin_cautious:
        cautious.begin(reason, as_json=as_json)
        return
    from orderrelay_workers.commands.opening import REFUSED, USAGE, actor, end, known_company, opened_ledger  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.ledger.rows import text  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    why = " ".join((text(reason) or "").split()) or "no reason was given"
    if why in (companies.CREDENTIALS, companies.COMPANY_KEY_CHANGED):
        # Workers set these themselves, and end them by themselves.
        end(f"--reason {why!r} is what workers say of themselves; use other words", USAGE)
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        known = known_company(companies.by_alias(engine), company)
        changed = companies.pause(engine, known.alias, why, actor=actor())
        now = companies.by_alias(engine)[known.alias]
    mirrored = now.paused_reason is not None and _mirror(settings, now)
    if as_json:
        _print(now, changed=changed, mirrored=mirrored)
    elif changed:
        typer.echo(f"{now.alias} is paused: {why}. Go on with: orderrelay resume {now.alias}")
    if not changed:
        said = f"{now.alias} is paused already, by {now.paused_by}: {now.paused_reason}"
        if now.paused_reason != why:
            end(f"{said}. The first reason stays; resume the company first to give another", REFUSED)
        if not as_json:
            typer.echo(said)


def resume(
    company: _Company = "",
    *,
    same_company: Annotated[
        bool, typer.Option("--same-company", help="The changed COMPANY_API_KEY is a new key of the same company.")
    ] = False,
    end_cautious: Annotated[
        bool, typer.Option("--end-cautious", help="Instead: end cautious mode. What waits is still looked up first.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Send a paused company's orders again, and forget that the vendor was unwell or asked to wait.

    Exit code: 0 resumed or not paused, 1 unknown company or key not confirmed, 2 usage or settings, 3 database
    unreachable.
    Example: orderrelay resume acme
    Example: orderrelay resume acme --same-company
    Example: orderrelay resume --end-cautious
    """
    from orderrelay_workers.commands import cautious  # noqa: PLC0415  heavy; --help must be quick

    cautious.require_one(company, "--end-cautious", given=end_cautious)
    if end_cautious:
        cautious.end(as_json=as_json)
        return
    from orderrelay_workers.commands.opening import REFUSED, actor, end, known_company, opened_ledger  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        known = known_company(companies.by_alias(engine), company)
        is_bound = _is_bound_to_key_set_here(settings, engine, known)
        digest = _digest_of_new_key(settings, engine, known) if same_company and not is_bound else None
        if known.paused_reason == companies.COMPANY_KEY_CHANGED and not (same_company or is_bound):
            end(
                f"{known.alias} is paused because its COMPANY_API_KEY is not the one it is bound to: its orders would "
                f"go to other books. If the new key is the same company's, run: orderrelay resume {known.alias} "
                f"--same-company. If not, set the old key again, and use another alias for the other company",
                REFUSED,
            )
        changed = companies.resume(engine, known.alias, actor=actor(), new_key_digest=digest)
        now = companies.by_alias(engine)[known.alias]
    mirrored = now.paused_reason is None and _mirror(settings, now)
    if digest is not None and now.key_digest != digest:
        end(
            f"{now.alias} is not paused, so its key was not bound anew. Start a worker with the new key: it pauses "
            f"the company, which then can be resumed with --same-company",
            REFUSED,
        )
    if as_json:
        _print(now, changed=changed, mirrored=mirrored)
    elif changed:
        bound = (
            ", and bound to the new company key: restart workers that have it from their environment" if digest else ""
        )
        typer.echo(f"{now.alias} is resumed; it was paused by {known.paused_by}: {known.paused_reason}{bound}")
    else:
        typer.echo(f"{now.alias} was not paused")


def _is_bound_to_key_set_here(settings: WorkerSettings, engine: sa.Engine, company: Company) -> bool:
    """Whether the company key of this environment is the one that the company is bound to."""
    from orderrelay_workers.ledger import companies, identity  # noqa: PLC0415  heavy; --help must be quick

    if company.alias not in settings.companies:
        return False
    key = settings.companies[company.alias].company_api_key.get_secret_value()
    return company.key_digest == companies.key_digest(identity.ledger_id(engine), key)


def _digest_of_new_key(settings: WorkerSettings, engine: sa.Engine, company: Company) -> bytes:
    """The digest of the key that the settings have for a company; without one, or one in use, the command ends."""
    from orderrelay_workers.commands.opening import REFUSED, USAGE, end  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.ledger import companies, identity  # noqa: PLC0415

    alias = company.alias
    if alias not in settings.companies:
        name = f"ORDERRELAY_COMPANIES__{alias.upper()}__COMPANY_API_KEY"
        end(f"--same-company binds the key of this environment, but {name} is not set here", USAGE)
    key = settings.companies[alias].company_api_key.get_secret_value()
    digest = companies.key_digest(identity.ledger_id(engine), key)
    taken = [c.alias for c in companies.by_alias(engine).values() if c.key_digest == digest and c.alias != alias]
    if taken:
        end(f"the COMPANY_API_KEY of {alias} is the one that {taken[0]} is bound to; use one alias for it", REFUSED)
    return digest


def _mirror(settings: WorkerSettings, company: Company) -> bool:
    from orderrelay_workers.commands.mirroring import tell_gate  # noqa: PLC0415  heavy; --help must be quick

    return tell_gate(settings, lambda gate: _tell(gate, company))


def _tell(gate: Gate, company: Company) -> None:
    if company.paused_reason is not None:
        gate.pause(company.alias, company.paused_reason)
    else:
        gate.resume(company.alias)


def _print(company: Company, *, changed: bool, mirrored: bool) -> None:
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick

    print_json(
        {
            "company": company.alias,
            "paused": company.paused_reason is not None,
            "reason": company.paused_reason,
            "by": company.paused_by,
            "since": company.paused_at,
            "changed": changed,
            "mirrored": mirrored,
        }
    )
