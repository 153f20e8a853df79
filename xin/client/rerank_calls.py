"""Scoring documents against a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from xin.client.exchange import Call, Request, exchange, reader
from xin.protocol.openai import RerankReply

_encode = msgspec.json.Encoder().encode


def rerank(model: str, query: str, documents: Sequence[str], **fields: Any) -> Call[RerankReply]:
    """The documents by how well they answer the query, the best first; `top_n`, `return_documents`."""
    return exchange(_request(model, query, documents, fields), reader(RerankReply))


def handle_rerank(
    model_uid: str,
    /,
    documents: Sequence[str],
    query: str,
    top_n: int | None = None,
    return_documents: bool | None = None,
    return_len: bool | None = None,
) -> Call[dict[str, Any]]:
    """As `rerank`, in Xinference's order of arguments, as a plain dict."""
    fields = {"top_n": top_n, "return_documents": return_documents, "return_len": return_len}
    given = {name: value for name, value in fields.items() if value is not None}
    return exchange(_request(model_uid, query, documents, given), reader(dict[str, Any]))


def _request(model: str, query: str, documents: Sequence[str], fields: dict[str, Any]) -> Request:
    """A model takes as long as it takes, so nothing here times out."""
    body = {"model": model, "query": query, "documents": list(documents), **fields}
    return Request("POST", "/v1/rerank", body=_encode(body), timeout=None)
