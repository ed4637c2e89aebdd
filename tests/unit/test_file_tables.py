"""Orders from a table, and what of it is refused."""

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_producers.files.cells import Reading
from orderrelay_producers.files.keys_seen import KeysSeen, NumberByKey
from orderrelay_producers.files.records import FileFormat, FileUnreadable
from orderrelay_producers.files.source import look_through, read_records
from orderrelay_producers.files.tables import rows_astray
from orderrelay_shared.orders import Order, OrderInvalid

if TYPE_CHECKING:
    from orderrelay_producers.files.tables import TableOrder
    from orderrelay_shared.order_problems import Problem

HEADER = "OrderKey;CustomerNr;InvoiceDate;ExternalId;CustomerRowType;ProductNr;Quantity;Amount;Text;"
SOUND = "1;013;2026-01-30;A-1;2;100-5t;1,5;350,50;;"


def table(
    *lines: str, encoding: str = "utf-8", reading: Reading | None = None, header: str = HEADER
) -> list[TableOrder]:
    """The orders of a table with these lines."""
    data = "".join(f"{line}\r\n" for line in (header, *lines)).encode(encoding)
    form, _, records = read_records(io.BytesIO(data), reading or Reading())
    assert form is FileFormat.CSV
    return [cast("TableOrder", one) for one in records]


def properties(order: TableOrder) -> dict[str, object]:
    """What a sound order says."""
    assert isinstance(order.content, dict)
    return order.content


def told(order: TableOrder) -> list[str]:
    """What is wrong with an order, each with its place, as a run tells it."""
    try:
        if isinstance(order.content, OrderInvalid):
            raise order.content
        Order.parse(order.content)
    except OrderInvalid as error:
        return [f"{order.place(problem.path)}: {problem.message}" for problem in error.problems]
    return []


def unreadable(*lines: str, header: str = HEADER, encoding: str = "utf-8") -> str:
    """Why a table cannot be read."""
    with pytest.raises(FileUnreadable) as caught:
        table(*lines, header=header, encoding=encoding)
    return str(caught.value)


def test_rows_with_one_key_are_one_order() -> None:
    """What belongs to the order stands in its first row, and is repeated or left out in the others."""
    first, second = table(
        SOUND, "1;;;;3;;;;Lämnas här;", "1;013;20260130;A-1;2;200;2;1 000;;", "2;014;2026-01-30;;2;9;1;1;;"
    )
    order = Order.parse(properties(first))
    assert (
        order.body()
        == Order.from_json(
            '{"CustomerNr":"013","InvoiceDate":"2026-01-30","ExternalId":"A-1","InvoiceRows":['
            '{"CustomerRowType":2,"ProductNr":"100-5t","Quantity":1.5,"Amount":350.50},'
            '{"CustomerRowType":3,"Text":"Lämnas här"},'
            '{"CustomerRowType":2,"ProductNr":"200","Quantity":2,"Amount":1000}]}'
        ).body()
    )
    assert (first.number, first.next_number, second.number, second.next_number) == (2, 5, 5, 6)
    assert first.raw.count(b"\r\n") == 3
    assert "ExternalId" not in properties(second)


def test_the_external_id_is_the_key_where_there_is_no_other() -> None:
    """Without a column OrderKey the ExternalId tells which rows are one order."""
    orders = table("A;1;2026-01-30", "A;;", "B;1;2026-01-30", header="External Id;customer_nr;INVOICEDATE")
    assert [len(order.rows) for order in orders] == [2, 1]


@pytest.mark.parametrize("sign", [";", ",", "\t"])
def test_the_header_tells_the_delimiter(sign: str) -> None:
    """Excel writes semicolons in Sweden, commas elsewhere."""
    (order,) = table(f"A{sign}013", header=f"ExternalId{sign}CustomerNr")
    assert order.content == {"ExternalId": "A", "CustomerNr": "013", "InvoiceRows": [{}]}


def test_a_line_may_tell_the_delimiter() -> None:
    """Excel itself reads and writes it so."""
    (order,) = table("ExternalId|CustomerNr", "A|013", header="sep=|")
    assert order.content == {"ExternalId": "A", "CustomerNr": "013", "InvoiceRows": [{}]}
    assert order.number == 3


def test_a_byte_order_mark_and_empty_lines_do_no_harm() -> None:
    """Excel writes the one before, and the others behind a table."""
    orders = table(";;;;;;;;;", SOUND, "", ";;;;;;;;;", encoding="utf-8-sig")
    assert [(order.number, told(order)) for order in orders] == [(3, [])]


def test_a_cell_may_have_line_ends() -> None:
    """The next order's line is right nevertheless."""
    orders = table('1;013;2026-01-30;A-1;3;;;;"En\nrad ""till"";";', "2;x;;;;;;;;")
    assert [order.number for order in orders] == [2, 4]
    assert properties(orders[0])["InvoiceRows"] == [{"CustomerRowType": 3, "Text": 'En\nrad "till";'}]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([SOUND.replace("1,5", "1,234")], "line 2, column Quantity: '1,234' may be 1234 or 1.234"),
        ([SOUND, "1;014;;;3;;;;x;"], "line 3, column CustomerNr: is '014', but '013' in line 2 of the same order"),
        ([SOUND.replace("A-1", ""), "1;;;A-2;3;;;;x;"], "line 3, column ExternalId: is 'A-2', but empty in line 2"),
        ([SOUND, "1;;3/1/2026;;3;;;;x;"], "line 3, column InvoiceDate: '3/1/2026' may be"),
        ([SOUND, "1;;;;3;;;;;"], "line 3, column Text: is mandatory on a text row"),
        ([SOUND, "1;;;;9;;;;x;"], "line 3, column CustomerRowType: must be 2 (product row) or 3 (text row)"),
        ([SOUND, "1;;;;Textrad;;;;x;"], "not the text 'Textrad': did you mean 3?"),
        ([SOUND.replace("013", "")], "line 2, column CustomerNr: is mandatory"),
        ([SOUND[1:]], "line 2, column OrderKey: is empty"),
        ([SOUND + ";"], "line 2: has 11 cells, and the header has 10: a cell that holds the delimiter needs quotes"),
        ([SOUND.removesuffix(";;")], "line 2: has 8 cells, and the header has 10"),
        ([SOUND + "x"], "line 2, column 10: has a value but no name in the header"),
    ],
)
def test_a_mistake_is_told_with_line_and_column(lines: list[str], problem: str) -> None:
    """Whether in a cell, between cells or against the order's rules."""
    (order,) = table(*lines)
    assert any(one.startswith(problem) or one.endswith(problem) for one in told(order)), told(order)


def test_a_wrong_cell_hides_no_other_mistake() -> None:
    """All of an order's mistakes are told at once, by their lines; a value that cannot be read is not also missing."""
    (order,) = table("1;;2026-13-30;A-1;2;;tre;;;", "1;;;;2;200;2;;;")
    assert told(order) == [
        "line 2, column Quantity: must be a number such as 1.10 or 1,10, not 'tre'",
        "line 2, column CustomerNr: is mandatory",
        "line 2, column InvoiceDate: is no real date: '2026-13-30'",
        "line 2, column ProductNr: is mandatory on a product row (CustomerRowType 2)",
        "line 2, column Amount: is mandatory on a product row (CustomerRowType 2)",
        "line 3, column Amount: is mandatory on a product row (CustomerRowType 2)",
    ]


def test_what_is_given_in_a_further_row_only_is_told_there_only() -> None:
    """Not as missing too."""
    (order,) = table("1;;2026-01-30;A-1;2;200;2;1;;", "1;013;;;2;200;2;1;;")
    [problem] = told(order)
    assert problem.startswith("line 3, column CustomerNr: is '013', but empty in line 2")


def test_rows_without_their_order_are_told_as_that_only() -> None:
    """What they lack may stand in rows elsewhere."""
    orders = table(SOUND, ";;;;2;;tre;;;", "2;014;2026-01-30;A-2;2;200;2;1;;", "1;;;;2;;tre;;;")
    assert [problem for order in orders for problem in told(order)] == [
        "line 3, column OrderKey: is empty: it tells in each row which order that belongs to",
        "line 3, column Quantity: must be a number such as 1.10 or 1,10, not 'tre'",
        "line 5, column OrderKey: was the key of the order at line 2: the rows of one order must stand together",
        "line 5, column Quantity: must be a number such as 1.10 or 1,10, not 'tre'",
    ]


def test_a_key_that_comes_back_is_refused() -> None:
    """Rows of one order that do not stand together would make two orders of it."""
    orders = table(SOUND, SOUND.replace("1;013", "2;013"), SOUND)
    assert [told(order) for order in orders[:2]] == [[], []]
    assert told(orders[2]) == [
        "line 4, column OrderKey: was the key of the order at line 2: the rows of one order must stand together"
    ]


@pytest.mark.parametrize("back", ["a-1", " A-1 "])
def test_an_external_id_comes_back_as_one_order_however_it_is_written(back: str) -> None:
    """Two that are one order elsewhere are one here too; a key of the table's own is compared as it stands."""
    header = "ExternalId;CustomerNr;InvoiceDate;CustomerRowType;Text"
    orders = table("A-1;1;2026-01-30;3;x", "B;1;2026-01-30;3;x", f"{back};;;3;x", header=header)
    assert "was the key of the order at line 2" in told(orders[2])[0]
    (order,) = table("A-1;1;2026-01-30;3;x", "a-1;;;3;x", header=header)
    assert told(order) == ["line 3, column ExternalId: is 'a-1', but 'A-1' in line 2 of the same order"]
    upper = SOUND.replace("1;", "K;", 1)
    assert [told(order) for order in table(upper, upper.replace("K", "k"))] == [[], []]


@pytest.mark.parametrize(
    ("header", "row", "place"),
    [
        ("OrderKey;CustomerNr;Text", ";013;x", "line 3, column OrderKey"),
        ("OrderKey;CustomerNr;Text", ";013", "line 3, column OrderKey"),
        ("OrderKey;CustomerNr;Text", "2;013;x;y", None),  # Whatever else it is, it is order 2's.
        ("CustomerNr;OrderKey;Text", "013;;x", "line 3, column OrderKey"),
        ("CustomerNr;OrderKey;Text", "0;13;1;x", "line 3"),
        ("CustomerNr;OrderKey;Text", "013", "line 3"),
        ("CustomerNr;OrderKey;Text", "013;1;x;y", None),  # Order 1 is refused with it.
    ],
)
def test_a_row_that_does_not_surely_tell_its_order_is_astray(header: str, row: str, place: str | None) -> None:
    """An order that is whole without it cannot be told from one that lacks it."""
    first = "1;013;x" if header.startswith("OrderKey") else "013;1;x"
    found = [problem.path for problem in rows_astray(io.BytesIO(f"{header}\n{first}\n{row}\n".encode()), Reading())]
    assert found == ([place] if place else [])


def test_a_table_is_looked_through_from_where_it_stands() -> None:
    """What was read before, as by another program from the same standard input, is no part of it."""
    stream = io.BytesIO(b"not for us\n" + f"{HEADER}\n{SOUND}\n2{SOUND[1:]}\n{SOUND}\n".encode())
    stream.readline()
    problems: list[Problem] = []
    with ExitStack() as closing:
        form, again = look_through(stream, Reading(), None, problems.append, closing)
        _, _, records = read_records(again, Reading(), form)
        assert [record.number for record in records] == [2, 3, 4]
    assert [problem.path for problem in problems] == ["line 4, column OrderKey"]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("OrderKey;CustomrNr", "line 1, column CustomrNr: is unknown: did you mean CustomerNr?"),
        ("OrderKey;CustomerNr;Qantity", "line 1, column Qantity: is unknown: did you mean Quantity?"),
        ("OrderKey;CustomerNr;Färg", "line 1, column Färg: is no property of the order API"),
        ("OrderKey;CustomerNr;customer_nr", "column customer_nr: is the property of column CustomerNr again"),
        ("CustomerNr;InvoiceDate", "there is neither a column OrderKey nor ExternalId"),
    ],
)
def test_a_wrong_header_is_refused(header: str, problem: str) -> None:
    """No column is passed over in silence."""
    if header == "OrderKey;CustomrNr":
        header += ";Amount"
    assert problem in unreadable("", header=header)


def test_line_ends_of_old_macs_are_told() -> None:
    """A carriage return by itself ends no line; the header says so, and what to do, as any other line does."""
    problem = "cannot be read as CSV: new-line character seen in unquoted field"
    told = unreadable(header=f"{HEADER}\r{SOUND}\r")
    assert told.startswith(f"the header {problem}")
    assert told.endswith("save it with line ends of Unix or Windows")


@pytest.mark.parametrize("first", [b"\x8e\r\x07;,\x99\r\xfa", b"CustomerNr;Invoi\rceDate"])
def test_what_is_no_text_is_no_table(first: bytes) -> None:
    """Bytes that no reader of CSV takes are told like anything else that holds no orders."""
    with pytest.raises(FileUnreadable, match="neither an order as JSON"):
        read_records(io.BytesIO(first + b"\n"), Reading())


def test_what_rows_and_orders_both_have_is_the_orders() -> None:
    """A row's has a prefix."""
    (order,) = table("A;1;2", header="ExternalId;Type;Row.Type")
    assert order.content == {"ExternalId": "A", "Type": 1, "InvoiceRows": [{"Type": "2"}]}
    assert order.place("InvoiceRows[0].Type") == "line 2, column Row.Type"
    assert order.place("Type") == "line 2, column Type"


def test_windows_text_is_refused_unless_it_is_said() -> None:
    """What would be read wrongly is shown as it would be; --encoding takes it."""
    lines = (SOUND, "1;;;;3;;;;Räksmörgås;")
    problem = unreadable(*lines, encoding="cp1252")
    assert problem.startswith("line 3 is not utf-8 (byte 0xe4): if '1;;;;3;;;;Räksmörgås;' reads right")
    assert "--encoding cp1252" in problem
    (order,) = table(*lines, encoding="cp1252", reading=Reading("cp1252"))
    assert cast("list[dict[str, object]]", properties(order)["InvoiceRows"])[1]["Text"] == "Räksmörgås"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('1;"013', "line 2 cannot be read as CSV: unexpected end of data; is a quote not closed?"),
        ('1;"013"x;', "line 2 cannot be read as CSV: ';' expected after '\"'"),
        ('1;"' + "x" * 140_000, "is a quote not closed?"),
        ("1;013\r2;014", "save it with line ends of Unix or Windows"),
    ],
)
def test_what_is_no_csv_is_told_with_its_line(line: str, problem: str) -> None:
    """It cannot be said where the next order begins, so reading ends there."""
    assert problem in unreadable(line)


def test_a_wrong_key_column_makes_no_endless_order() -> None:
    """An order of a whole file would fill the memory."""
    assert "line 20002: the order that begins at line 2 has more than 20000 rows" in unreadable(*([SOUND] * 20_001))


def test_numbers_are_kept_by_key_however_many() -> None:
    """The flat arrays say what a dictionary would, also of keys that fall on one place."""
    numbers, expected = NumberByKey(), dict[int, int]()
    for step in range(5000):
        key = (step * 0x9E3779B97F4A7C15) % 2**64 if step % 3 else step << 40
        numbers[key] = expected[key or 1] = numbers[key] + step
    assert {key: numbers[key] for key in expected} == expected
    assert numbers[12345] == 0


def test_a_text_is_new_once() -> None:
    """However many were met between; then it is told where that was."""
    seen = KeysSeen()
    assert not any(seen.add(str(number), number + 7) for number in range(3000))
    assert [seen.add(str(number), 9999) for number in range(3000)] == list(range(7, 3007))
