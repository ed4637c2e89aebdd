"""The vendor's addresses, with the keys in their queries. What is made here is secret and is never shown."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

#: The vendor's number for "order" among the types of documents that a look-up finds.
ORDER_TYPE: Final = 6


def order_address(
    base_url: str,
    path: str,
    *,
    company_api_key: str,
    connect_api_key: str,
    token: str,
    import_id: int,
    special_functionalities: str,
) -> str:
    """Where an order is posted: exactly the vendor's five parameters, all always present."""
    return _address(
        base_url,
        path,
        companyApiKey=company_api_key,
        connectApiKey=connect_api_key,
        token=token,
        importId=str(import_id),
        specialFunctionalities=special_functionalities,
    )


def lookup_address(
    base_url: str, path: str, *, company_api_key: str, connect_api_key: str, token: str, external_id: str
) -> str:
    """Where the ids of the orders with an ExternalId are found."""
    return _address(
        base_url,
        path,
        companyApiKey=company_api_key,
        connectApiKey=connect_api_key,
        token=token,
        type=str(ORDER_TYPE),
        externalId=external_id,
    )


def login_address(base_url: str, path: str, *, company_api_key: str, connect_api_key: str) -> str:
    """Where a token is got."""
    return _address(base_url, path, companyApiKey=company_api_key, connectApiKey=connect_api_key)


def _address(base_url: str, path: str, **parameters: str) -> str:
    # "surrogatepass": an unpaired surrogate must not raise an exception here, as that would hold the secret.
    query = "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in parameters.items())
    return f"{base_url.rstrip('/')}/{path.lstrip('/')}?{query}"
