"""What must not be shown: known secrets, values under telling names, and everything in a URL's query.

Three nets, as each has holes: a secret that nobody announced is caught by its name or its place in a URL, and one
that stands where nobody expects it is caught because it is known.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote, quote_plus

from pydantic import SecretBytes, SecretStr

from orderrelay_shared.urls import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A shorter secret is masked only where it stands as a word of its own: a user name "api" must not garble "rapid".
_WORD_LENGTH: Final = 8

#: Nesting below this is not followed but masked: what is logged is never that deep on purpose.
_DEEPEST: Final = 20

#: Their str says all that their repr does.
_PLAIN: Final = (date, time, timedelta, Decimal, uuid.UUID, PurePath)

_TELLING_END = re.compile(r"(?:key|token|password|passwd|secret|licen[cs]e|authorization)$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^\s/@\"'<>]+(?=@)|(?<=://)[^\s\"'<>?]*:[^\s\"'<>]*(?=@)")
_URL_QUERY = re.compile(r"(://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_PATH_QUERY = re.compile(r"\?(?=[\w%\[][^\s=&?\"'<>]*=)[^\s\"'<>]*")
_PAIR = re.compile(
    r"((?:api_?key|token|password|passwd|secret|licen[cs]e)\\?[\"']?\s*(?:=|(?<=[\"'])\s*:)\s*)"
    r"(\\?\"(?:[^\"\\]|\\[^\"])*\\?\"|'[^']*'|[^\s\"'&,;)}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer) +[\w.~+/=-]{8,}", re.IGNORECASE)


class Mask:
    """Replaces whatever must not be shown by "…".

    Args:
        secret_values: The plain text of every known secret; they are matched in any letter case, and as they look
            inside URLs, JSON and Python's repr.
    """

    def __init__(self, secret_values: Iterable[str] = ()) -> None:
        self._forms: frozenset[str] = frozenset()
        self._known: re.Pattern[str] | None = None
        self.learn(secret_values)

    def learn(self, secret_values: Iterable[str]) -> None:
        """Replace these from now on as well; whatever was known stays known."""
        self._forms |= {form for value in secret_values if value for form in _forms(value)}
        # The longest first, or a secret that begins with another would leave its end behind.
        patterns = [_pattern(form) for form in sorted(self._forms, key=lambda form: (-len(form), form))]
        self._known = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text:
            text = _USER_INFO.sub(MASK, text)
            text = _URL_QUERY.sub(rf"\1?{MASK}", text)
        if "?" in text:
            text = _PATH_QUERY.sub(f"?{MASK}", text)
        return _BEARER.sub(rf"\1 {MASK}", _PAIR.sub(rf"\1{MASK}", text))

    def value(self, value: object) -> object:
        """The value without secrets, through mappings, lists and bytes; whatever else it holds becomes its masked repr.

        Args:
            value: Anything; it is not changed.
        """
        return self._value(value, 0)

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return MASK if self._known is not None and self._known.search(str(value)) else value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, SecretStr | SecretBytes) or depth > _DEEPEST:
            return MASK
        if isinstance(value, bytes | bytearray):
            return self.text(value.decode("utf-8", "backslashreplace"))
        if isinstance(value, Mapping):
            members = cast("Mapping[object, object]", value)
            return {
                self.text(_as_text(name)): MASK if _is_telling(name, member) else self._value(member, depth + 1)
                for name, member in members.items()
            }
        if isinstance(value, list | tuple | AbstractSet):
            return [self._value(member, depth + 1) for member in cast("Iterable[object]", value)]
        try:
            return self.text(str(value) if isinstance(value, _PLAIN) else repr(value))
        except Exception:  # noqa: BLE001  a broken __repr__ must not cost the log line
            return f"<{type(value).__name__}>"


def _as_text(name: object) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def _is_telling(name: object, value: object) -> bool:
    return value is not None and _TELLING_END.search(_as_text(name)) is not None


def _forms(value: str) -> set[str]:
    """The value as it looks as such, in a URL, in JSON and in a repr."""
    plain = {value, value.strip()}
    return plain | {
        form
        for text in plain
        for form in (
            quote(text, safe=""),
            quote(text),
            quote_plus(text),
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
            repr(text.encode())[2:-1],
        )
        if form
    }


def _pattern(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _WORD_LENGTH else rf"(?<!\w){escaped}(?!\w)"
