"""POST /v1/rerank, in the shape that Jina, Cohere and Xinference share."""

from __future__ import annotations

from aiohttp import web

from xin.errors import BadRequest
from xin.node.keys import MANAGER
from xin.node.routes.body import ignored_headers, json_response, read_object, to_struct
from xin.protocol.openai import RerankDocument, RerankReply, RerankRequest, RerankResult
from xin.worker.frames import Rerank

MAX_DOCUMENTS = 2048


async def create(request: web.Request) -> web.Response:
    data = await read_object(request)
    body = to_struct(data, RerankRequest)
    frame = rerank_frame(body)
    async with request.app[MANAGER].lease(body.model, await request.read()) as lease:
        result = await lease.handle.rerank(frame)
    best = sorted(range(len(result.scores)), key=lambda i: -result.scores[i])[: body.top_n]
    documents = frame.documents if body.return_documents else None
    reply = RerankReply(
        model=lease.instance.served_uid,
        results=[
            RerankResult(i, result.scores[i], RerankDocument(documents[i]) if documents is not None else None)
            for i in best
        ],
        usage={"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens},
        meta={"tokens": {"input_tokens": result.prompt_tokens, "output_tokens": 0}} if body.return_len else None,
    )
    return json_response(reply, ignored_headers(data))


def rerank_frame(body: RerankRequest) -> Rerank:
    """BadRequest for no documents, too many, and what a client's further keywords ask for."""
    if body.kwargs not in (None, "{}"):
        raise BadRequest("kwargs: no further keywords are known", "leave them out", param="kwargs")
    if not body.documents:
        raise BadRequest("documents is empty", "send at least one", param="documents")
    if len(body.documents) > MAX_DOCUMENTS:
        message = f"{len(body.documents)} documents are over {MAX_DOCUMENTS}"
        raise BadRequest(message, "send several requests", param="documents")
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    return Rerank(0, body.query, texts)
