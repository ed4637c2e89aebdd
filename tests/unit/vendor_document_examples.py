"""The vendor document's tables and examples, as tests compare them with the models."""

from __future__ import annotations

from typing import Final

#: Table 2.4, header: property and documented type. InvoiceRows is the array of ROW_PROPERTIES.
HEADER_PROPERTIES: Final = """
CustomerNr string|InvoiceDate date|OriginType integer|InvoiceRows array|CustomerInvoiceHeadIOId integer|
InvoiceId integer|CustomerInvoiceNr string|SeqNr integer|OCR string|ActorCompanyId integer|Import boolean|Type integer|
Status integer|Source integer|OriginStatus integer|BatchId string|PriceListTypeId integer|PaymentCondition string|
PaymentConditionId integer|DeliveryCondition string|DeliveryConditionId integer|DeliveryType string|
DeliveryTypeId integer|AutoCreateCustomer boolean|CustomerId integer|CustomerExternalNr string|CustomerName string|
CustomerOrgnr string|RegistrationType integer|DueDate date|DeliveryDate date|VoucherDate date|ReferenceOur string|
ReferenceYour string|OrderDate date|Currency string|Note string|ErrorMessage string|Created date|CreatedBy string|
Modified date|ModifiedBy string|ExternalId string|OrderNr string|OrderType integer
"""

#: Table 2.4, rows.
ROW_PROPERTIES: Final = """
CustomerRowType integer|ProductNr string|Quantity number|Amount number|RowNr integer|Text string|AccountSieDim6 string|
CustomerInvoiceRowIOId integer|CustomerInvoiceHeadIOId integer|InvoiceRowId integer|InvoiceNr string|
ActorCompanyId integer|Import boolean|Type string|Status integer|Source integer|BatchId string|ProductId integer|
ProductGroupId integer|ProductName string|ProductName2 string|UnitPrice number|Discount number|Unit string|
VatRate number|AccountNr string|PurchasePrice number|VatAmount number|SumAmount number|ErrorMessage string|Created date|
Modified date|ExternalId string|CategoryIds integers|IsReadOnly boolean
"""

#: Table 3.2.
RESULT_PROPERTIES: Final = """
Success boolean|SuccessNumber integer|ErrorNumber integer|ErrorMessage string|InfoMessage string|
CanUserOverride boolean|IntegerValue integer|IntegerValue2 integer|DecimalValue number|StringValue string|
BooleanValue boolean|BooleanValue2 boolean|DateTimeValue date|Value any|Value2 any|Dates dates|Keys integers|
Strings strings|IdDict object|IntDict object|IntDict2 object|StrDict object|StrDict2 object|StrIntListDict object|
ObjectsAffected integer|StackTrace string|Exception string|Modified date|ModifiedBy string
"""

#: The response of 3.3.1.
RESULT_EXAMPLE: Final = rb"""{
  "Success": true, "SuccessNumber": 0, "ErrorNumber": 0, "ErrorMessage": null,
  "InfoMessage": "\\n\\n kundfakturor utav 1 har skapats/uppdaterats.", "CanUserOverride": false,
  "IntegerValue": 0, "IntegerValue2": 0, "DecimalValue": 0.0, "StringValue": "b2f6ea92-b277-4934-904d-9b30fc250c9f",
  "BooleanValue": false, "BooleanValue2": false, "DateTimeValue": "0001-01-01T00:00:00", "Value": null, "Value2": null,
  "Dates": null, "Keys": [ 12614169 ], "Strings": [ "211" ], "IdDict": null, "IntDict": null, "IntDict2": null,
  "StrDict": null, "StrDict2": null, "StrIntListDict": null, "ObjectsAffected": 1, "StackTrace": null,
  "Exception": null, "Modified": "0001-01-01T00:00:00", "ModifiedBy": null
}"""

#: The body of 3.3.1 without its trailing comma, in the caller's order of names.
ORDER_EXAMPLE: Final = """{
  "InvoiceRows": [
    {
      "CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3.0, "Amount": 350,
      "Text": "Skolbil m väktare", "RowNr": 1
    }
  ],
  "InvoiceDate": "2026-01-30", "OriginType": 6, "CustomerNr": "013"
}"""

#: What it becomes on the wire: the same data, in the order of table 2.4.
ORDER_EXAMPLE_BODY: Final = (
    '{"CustomerNr":"013","InvoiceDate":"2026-01-30","OriginType":6,"InvoiceRows":[{"CustomerRowType":2,'
    '"ProductNr":"100-5t","Quantity":3.0,"Amount":350,"RowNr":1,"Text":"Skolbil m väktare"}]}'
).encode()


def properties(table: str) -> list[tuple[str, str]]:
    """The property names and types of a table above."""
    return [(name, kind) for name, kind in (entry.split() for entry in table.split("|"))]
