"""What is wrong with an order, told in words for its author, all of it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from orderrelay_shared.field_types import told, told_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydantic import ValidationError

#: Where in a document: property names, and positions in lists from 0.
Steps = tuple[int | str, ...]

#: Snake-case name -> vendor name, where the one does not follow from the other.
_ODD_NAMES: Final = {
    "ocr": "OCR",
    "import_": "Import",
    "customer_invoice_head_io_id": "CustomerInvoiceHeadIOId",
    "customer_invoice_row_io_id": "CustomerInvoiceRowIOId",
}
_ODD_NAMES_BACK: Final = {vendor: snake for snake, vendor in _ODD_NAMES.items()}

#: What people write in place of a CustomerRowType, in English and Swedish.
_ROW_TYPE_WORDS: Final = {"product": 2, "produkt": 2, "article": 2, "artikel": 2, "text": 3, "comment": 3}


def vendor_name(snake: str) -> str:
    """The vendor's name of a property: `CustomerNr` for `customer_nr`."""
    return _ODD_NAMES.get(snake) or "".join(word[:1].upper() + word[1:] for word in snake.split("_"))


def snake_name(name: str) -> str:
    """The snake-case name of a property, given by either name."""
    if name.islower():
        return name
    return _ODD_NAMES_BACK.get(name) or "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: Where, as `InvoiceRows[3].Quantity` (positions from 0, as in the caller's list); empty for the whole.
        message: What is wrong there, and what would be right.
    """

    path: str
    message: str

    def __str__(self) -> str:
        """Both in one line."""
        return f"{self.path}: {self.message}" if self.path else self.message


class OrderInvalid(ValueError):
    """An order, or one row made by itself, cannot be taken as it is.

    Attributes:
        problems: Everything that is wrong with it; at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems, each once."""
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(problems))
        super().__init__(self.problems)

    def __str__(self) -> str:
        """All problems, one a line."""
        return "\n".join(map(str, self.problems))


class RulesBroken(ValueError):
    """What a document's own rules found, on its way through pydantic."""

    def __init__(self, found: list[tuple[Steps, str]]) -> None:
        """Keep what was found, with the steps from the document that found it."""
        super().__init__("; ".join(f"{path_text(steps)}: {message}" for steps, message in found))
        self.found = found


def path_text(steps: Steps) -> str:
    """The steps as one text: `InvoiceRows[3].Quantity`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def problems_found(found: Iterable[tuple[Steps, str]], given: object) -> list[Problem]:
    """What was found, with the names in each path as the caller wrote them."""
    return [Problem(path_text(_as_written(steps, given)), message) for steps, message in found]


def _as_written(steps: Steps, given: object) -> Steps:
    written: list[int | str] = []
    in_snake_case = False
    for step in steps:
        name = step
        if isinstance(name, str) and isinstance(given, Mapping):
            names = cast("Mapping[object, object]", given)
            name = _name_as_written(name, names)
            in_snake_case = name == snake_name(name)
            given = names.get(name)
        elif isinstance(name, int) and isinstance(given, (list, tuple)):
            members = cast("list[object]", given)
            given = members[name] if name < len(members) else None
        else:
            # A row that was made before: as the caller names the order's own properties.
            name = snake_name(name) if isinstance(name, str) and in_snake_case else name
            given = None
        written.append(name)
    return tuple(written)


def _name_as_written(name: str, names: Mapping[object, object]) -> str:
    """The name itself, or its snake-case form where the caller uses that, for this property or for all."""
    snake = snake_name(name)
    all_snake = bool(names) and all(isinstance(other, str) and other == snake_name(other) for other in names)
    return snake if name not in names and (snake in names or all_snake) else name


def errors_found(error: ValidationError, names_at: Callable[[Steps], Iterable[str]]) -> Iterator[tuple[Steps, str]]:
    """What pydantic refused, as steps and words.

    Args:
        error: Its exception.
        names_at: Called with the steps to a document, gives that document's snake-case property names.
    """
    for one in error.errors(include_url=False):
        steps: Steps = one["loc"]
        cause = one.get("ctx", {}).get("error")
        if isinstance(cause, RulesBroken):
            for inner, message in cause.found:
                yield (*steps, *inner), message
        elif one["type"] == "too_short" and one["input"]:
            # pydantic counts only sound rows; that the others are not is told of each.
            continue
        elif one["type"] == "extra_forbidden":
            yield steps, _unknown_name(str(steps[-1]), names_at(steps[:-1]))
        else:
            yield steps, _in_words(one["type"], str(steps[-1]) if steps else "", one["input"], cause or one["msg"])


def _unknown_name(name: str, snake_names: Iterable[str]) -> str:
    known = {_bare(snake): snake for snake in snake_names}
    same = known.get(_bare(name))
    if same is not None and name in (same, vendor_name(same)):
        other = vendor_name(same) if name == same else same
        return f"is given a second time, as `{other}`: give it once"
    bare = _bare(name)
    close = _close(bare, known, 0.6)
    if not close and len(bare) > 3:
        # What has the name as its end, if only one has: `Rows` for `InvoiceRows`.
        close = [whole for whole in known if whole.endswith(bare)]
    if len(close) != 1:
        return "is no property of the order API"
    nearest = known[close[0]]
    return f"is unknown: did you mean `{nearest if name.islower() else vendor_name(nearest)}`?"


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _in_words(kind: str, name: str, value: object, fallback: object) -> str:
    if name in ("OriginType", "origin_type") and kind != "missing":
        return f"must be 6, or left out: it is always 6; not {told_type(value)}"
    if name in ("CustomerRowType", "customer_row_type") and kind != "missing":
        return f"must be 2 (product row) or 3 (text row), not {told_type(value)}{_row_type_meant(value)}"
    match kind:
        case "missing":
            return "is mandatory"
        case "string_type":
            quote = f': put it in quotes, "{told(value)}"' if isinstance(value, (int, float)) else ""
            return f"must be text, not {told_type(value)}{quote}"
        case "string_unicode" | "string_pattern_mismatch":
            return _text_problem(str(value))
        case "int_type":
            return f"must be a whole number, not {told_type(value)}"
        case "greater_than_equal" | "less_than_equal":
            return f"must lie between -2^63 and 2^63 - 1, not {told_type(value)}"
        case "bool_type":
            return f"must be true or false, not {told_type(value)}"
        case "tuple_type":
            return f"must be a list, not {told_type(value)}"
        case "too_short":
            return "must have at least one row"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be an object with named properties, not {told_type(value)}"
        case "invalid_key":
            return "must be a text: it is the name of a property"
        case _:
            return str(fallback)


def _row_type_meant(value: object) -> str:
    """What a text in place of a CustomerRowType seems to mean, as a question."""
    if not isinstance(value, str):
        return ""
    word = value.strip().lower()
    if word in ("2", "3"):
        return f": write the number {word}, without quotes"
    close = _close(word.removesuffix("row").removesuffix("rad").strip(), _ROW_TYPE_WORDS, 0.7)
    return f": did you mean {_ROW_TYPE_WORDS[close[0]]}?" if close else ""


def _close(word: str, known: Iterable[str], cutoff: float) -> list[str]:
    """The nearest of the known words, if any is near enough (1.0: the same)."""
    from difflib import get_close_matches  # noqa: PLC0415  most who import this never make such a mistake

    return get_close_matches(word, list(known), n=1, cutoff=cutoff)


def _text_problem(text: str) -> str:
    for position, character in enumerate(text):
        code = ord(character)
        if character == "\r":
            return f"holds a carriage return at character {position}: end lines with a newline only"
        if 0xD800 <= code <= 0xDFFF:
            return f"holds half a surrogate pair (U+{code:04X}) at character {position}"
        if (code < 0x20 and character not in "\t\n") or 0x7F <= code <= 0x9F:
            return f"holds the control character U+{code:04X} at character {position}: only tab and newline are allowed"
    return "must not be empty or only space"
