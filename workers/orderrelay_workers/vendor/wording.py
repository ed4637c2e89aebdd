"""The vendor's words made fit for a reason: short, on one line, and without secrets."""

from __future__ import annotations

import re
from typing import Final

#: The longest text taken from an answer, in characters.
SHORT_TEXT_CHARACTERS: Final = 300

_MARKUP: Final = re.compile(
    r"<(style|script)\b.*?(</\1>|\Z) | <!--.*?-->  | </?[a-z!][^<>]*>", re.DOTALL | re.IGNORECASE | re.VERBOSE
)
_QUERY = re.compile(r"\?[^\s\"'<>]*")
# A value in quotes ends with them, whatever is in it, also where it is JSON inside a text of JSON (`\\"Password\\":`).
_SECRET = re.compile(
    r"""(?ix) \b ((?:company|connect)?_?api_?key | \w*token | \w*password | licen[cs]e) (\\*["']? \s* [=:] \s*)
    (?: (\\+["']) .*? (?:\3|\Z) | "(?:[^"\\]|\\.)*(?:"|\\?\Z) | '(?:[^'\\]|\\.)*(?:'|\\?\Z) | [^\s"'<>&,;}\\]+ )"""
)

#: Numbers and GUIDs, as every answer names them: there is nothing in them that is looked for below.
_PLAIN: Final = re.compile(r"[A-Za-z0-9-]*")

#: What the vendor's ErrorNumbers mean, as far as they are known from elsewhere; for people only.
ERROR_NUMBERS: Final = {
    1: "entity is null",
    2: "not found",
    3: "not active",
    4: "nothing saved",
    5: "not updated",
    6: "not created",
    7: "maximum length exceeded",
    8: "insufficient input",
    9: "duplicate",
    10: "incorrect input",
    11: "exists",
    12: "partly saved",
    13: "insufficient permission",
    14: "not supported",
    15: "completed with warnings",
    16: "locked",
    17: "number exists",
    26: "customer is blocked",
    41: "account year not open",
    42: "account period not open",
    138: "row could not be created",
    139: "customer invoice number exists",
    295: "product not found",
    1401: "modified by another user",
}


def short_text(value: str | bytes, limit: int = SHORT_TEXT_CHARACTERS) -> str:
    """The text on one line: no control characters, no query strings, no named secrets, at most `limit` characters.

    Args:
        value: Text, or bytes that are read as UTF-8 as far as that goes.
        limit: The longest result, in characters; a cut is shown by "…".
    """
    if len(value) <= limit and isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    # Only the beginning is looked at, so that a body of megabytes costs nothing; 4 bytes hold any character.
    beginning = value[: limit * 8]
    text = beginning.decode("utf-8", "replace") if isinstance(beginning, bytes) else beginning
    text = _MARKUP.sub(" ", text.removeprefix("\ufeff"))  # of an error page only its words are of use
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    text = _SECRET.sub(r"\1\2…", _QUERY.sub("?…", " ".join(text.split())))
    return text if len(text) <= limit else text[: limit - 1] + "…"
