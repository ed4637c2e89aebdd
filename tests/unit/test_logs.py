"""No secret reaches a log line, whoever writes it and wherever it stands."""

from __future__ import annotations

import io
import json
import logging
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import structlog
from pydantic import SecretStr

from orderrelay_workers.logs import MaskingHandler, configure_logs, learn_secrets
from orderrelay_workers.masking import Mask
from orderrelay_workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPANY_KEY = "3F2504E0-4F89-41D3-9A0C-0305E82C3301"
CONNECT_KEY = "connect/key+with=signs&more"
PASSWORD = 'pä"ss\\wörd 1'
DATABASE_PASSWORD = "db-hunter2"
URL = (
    f"https://apiexternal.softone.se/Economy/Billing/Orders?companyApiKey={COMPANY_KEY}"
    f"&connectApiKey={quote(CONNECT_KEY, safe='')}&token=an-unknown-token&importId=0"
)
SECRETS = (COMPANY_KEY, CONNECT_KEY, quote(CONNECT_KEY, safe=""), PASSWORD, DATABASE_PASSWORD, "an-unknown-token")


def make_settings(log_format: str = "json", **more: Any) -> WorkerSettings:
    """Settings with a secret of every kind."""
    company = {
        "company_api_key": COMPANY_KEY,
        "connect_api_key": CONNECT_KEY,
        "license": "100",
        "user_name": "api",
        "password": PASSWORD,
    }
    given = {"companies": {"acme": company}, "database_url": f"postgresql://u:{DATABASE_PASSWORD}@host/x", **more}
    return WorkerSettings.model_validate({"log_format": log_format, **given})


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is global to the process: what a test sets up here goes with it."""
    root = logging.getLogger()
    level, handlers, raises = root.level, list(root.handlers), logging.raiseExceptions
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    for name in ("httpx", "aiohttp", "httpcore", "hpack", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def assert_masked(text: str) -> None:
    """Fail with the secrets that the text shows."""
    lower = text.lower()
    shown = [s for s in SECRETS if s.lower() in lower or json.dumps(s)[1:-1].lower() in lower]
    assert shown == []


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest) -> io.StringIO:
    """What is written, in both formats."""
    stream = io.StringIO()
    configure_logs(make_settings(request.param), stream)
    return stream


@pytest.fixture
def json_lines() -> io.StringIO:
    """What is written as JSON."""
    stream = io.StringIO()
    configure_logs(make_settings("json"), stream)
    return stream


def test_lines_of_some_libraries_are_silent(lines: io.StringIO) -> None:
    """Request lines, which name the URL, are not written; nor is what alembic loads at a first start."""
    logging.getLogger("httpx").info('HTTP Request: %s %s "%s"', "POST", URL, "HTTP/1.1 200 OK")
    logging.getLogger("aiohttp.access").info("POST %s", URL)
    logging.getLogger("alembic.runtime.plugins").info("setup plugin, at each first start")
    assert lines.getvalue() == ""


def test_url_in_a_foreign_line(lines: io.StringIO) -> None:
    """A foreign line keeps its address and loses the query."""
    logging.getLogger("httpx").warning('HTTP Request: %s %s "%s"', "POST", URL, "HTTP/1.1 200 OK")
    logging.getLogger("anyone").info("GET /Login/Token/?companyApiKey=%s HTTP/1.1", "x")
    assert_masked(lines.getvalue())
    assert "https://apiexternal.softone.se/Economy/Billing/Orders?…" in lines.getvalue()
    assert "GET /Login/Token/?… HTTP/1.1" in lines.getvalue()


def test_own_lines(lines: io.StringIO) -> None:
    """Secrets go from our own lines: from the event, from fields, from what is nested in them."""
    structlog.get_logger("orderrelay").info(
        f"sending {COMPANY_KEY.lower()}",
        url=URL,
        body=f'{{"Password": {json.dumps(PASSWORD)}}}'.encode(),
        nested={
            "list": [{"deep": (CONNECT_KEY, quote(CONNECT_KEY), quote(CONNECT_KEY, safe=""))}],
            "Token": "an-unknown-token",
        },
        keys={COMPANY_KEY: 1},
        thing=object.__new__(type("Thing", (), {"__repr__": lambda self: PASSWORD})),
        error=ValueError(URL),
    )
    assert_masked(lines.getvalue())
    assert "sending …" in lines.getvalue()


@pytest.mark.parametrize("logger", [logging.getLogger("anyone"), structlog.get_logger("orderrelay")])
def test_tracebacks(lines: io.StringIO, logger: Any) -> None:
    """An exception's text, cause and notes are masked, in our lines and in foreign ones."""
    try:
        try:
            raise OSError(f"cannot reach {URL}")  # noqa: TRY301  its cause is the point
        except OSError as cause:
            error = RuntimeError(f"login with {PASSWORD} failed: postgresql://u:{DATABASE_PASSWORD}@host/x")
            error.add_note(CONNECT_KEY)
            raise error from cause
    except RuntimeError:
        logger.exception("failed")
    assert "Traceback" in lines.getvalue()
    assert "RuntimeError: login with … failed" in lines.getvalue()
    assert_masked(lines.getvalue())


def test_every_line_has_one_format(json_lines: io.StringIO) -> None:
    """Our lines and foreign ones have the same fields, with what is bound and the time in UTC."""
    with structlog.contextvars.bound_contextvars(company="acme"):
        structlog.get_logger("orderrelay").info("ours", job=uuid.UUID(int=1), amount=Decimal("1.10"))
        logging.getLogger("celery.task").info("theirs %d", 1)
    ours, theirs = (json.loads(line) for line in json_lines.getvalue().splitlines())
    assert ours.pop("job") == str(uuid.UUID(int=1))
    assert ours.pop("amount") == "1.10"
    for line in (ours, theirs):
        written_at = datetime.fromisoformat(line.pop("timestamp"))
        assert written_at.tzinfo == UTC
    assert ours == {"event": "ours", "level": "info", "logger": "orderrelay", "company": "acme"}
    assert theirs == {"event": "theirs 1", "level": "info", "logger": "celery.task", "company": "acme"}


def test_an_exception_is_one_field(json_lines: io.StringIO) -> None:
    """A line stays one line with a traceback in it."""
    try:
        {"": 1}["x"]
    except KeyError:
        logging.getLogger("anyone").exception("failed")
    (line,) = json_lines.getvalue().splitlines()
    assert json.loads(line)["exception"].startswith("Traceback (most recent call last):\n")


def test_configured_twice_writes_once() -> None:
    """A second call replaces the first."""
    first, second = io.StringIO(), io.StringIO()
    configure_logs(make_settings(), first)
    configure_logs(make_settings(), second)
    logging.getLogger("anyone").warning("once")
    assert (first.getvalue(), len(second.getvalue().splitlines())) == ("", 1)
    assert len([h for h in logging.getLogger().handlers if isinstance(h, MaskingHandler)]) == 1


def test_foreign_handlers_go(json_lines: io.StringIO) -> None:
    """Celery's own handlers, set before, do not write a second, unmasked line."""
    theirs = io.StringIO()
    logging.getLogger("celery").addHandler(logging.StreamHandler(theirs))
    configure_logs(make_settings(), json_lines)
    logging.getLogger("celery").error(URL)
    assert theirs.getvalue() == ""


def test_level() -> None:
    """Less important lines than the level are not written."""
    stream = io.StringIO()
    configure_logs(make_settings(log_level="WARNING"), stream)
    structlog.get_logger("orderrelay").info("quiet")
    logging.getLogger("anyone").info("quiet")
    structlog.get_logger("orderrelay").warning("loud")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_broken_line_shows_no_arguments(json_lines: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """A line whose arguments do not fit is lost with a word, not with its arguments."""
    logging.raiseExceptions = True
    (handler,) = (h for h in logging.getLogger().handlers if isinstance(h, MaskingHandler))
    handler.handle(logging.LogRecord("anyone", logging.INFO, "x.py", 7, "%d", (COMPANY_KEY,), None))
    err = capsys.readouterr().err
    assert err == "log line lost: anyone:7: TypeError\n"
    assert json_lines.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rapid api calls", "rapid … calls"),
        ("https://u:p@host/x?y=1 and more", "https://…@host/x?… and more"),
        ("https://host/x?hunter2 and more", "https://host/x?… and more"),
        ("what? nothing", "what? nothing"),
        ("WHERE a=? AND b=?", "WHERE a=? AND b=?"),
        ("VALUES (?,?) a=?,b=?", "VALUES (?,?) a=?,b=?"),
        ("token refused: try again", "token refused: try again"),
        ("token=abc, more", "token=…, more"),
        ('{"companyApiKey": "a b", "x": 1}', '{"companyApiKey": …, "x": 1}'),
        ("Authorization: Bearer abcdefghij", "Authorization: Bearer …"),
        ("longersecret1 longersecret", "… …"),
    ],
)
def test_mask_text(text: str, shown: str) -> None:
    """What must go goes, and prose stays readable."""
    assert Mask(["api", "longersecret", "longersecret1"]).text(text) == shown


def test_secrets_that_come_later(lines: io.StringIO) -> None:
    """Secrets that are changed while the process runs are masked too, and those before still are."""
    company = make_settings().companies["acme"].model_copy(update={"password": SecretStr("changed-hunter3")})
    learn_secrets(WorkerSettings(companies={"acme": company}))
    structlog.get_logger("x").info("event", said="changed-hunter3", before=PASSWORD, other=DATABASE_PASSWORD)
    assert_masked(lines.getvalue())
    assert "changed-hunter3" not in lines.getvalue()


def test_telling_names() -> None:
    """A value under a telling name goes, whatever it is; that there is none may be seen."""
    masked = Mask().value({"CompanyApiKey": "x", b"token": 5, "license": None, "Keys": {"1": 2}, "user": "u"})
    assert masked == {"CompanyApiKey": "…", "token": "…", "license": None, "Keys": {"1": 2}, "user": "u"}


def test_values_that_fight_back() -> None:
    """A value that contains itself, or whose repr fails, costs no line."""
    endless: list[object] = []
    endless.append(endless)

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "…" in str(Mask().value(endless))
    assert Mask().value([Broken(), 12345678]) == ["<Broken>", 12345678]
    assert Mask(["12345678"]).value(12345678) == "…"
