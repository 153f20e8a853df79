"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import sys
from array import array

from aiohttp import web

from xin.errors import BadRequest
from xin.node.keys import MANAGER
from xin.node.routes.body import ignored_headers, json_response, read_object, to_struct
from xin.node.routes.inputs import texts_or_tokens
from xin.protocol.openai import Embedding, EmbeddingReply, EmbeddingRequest
from xin.worker.frames import Embed

MAX_INPUTS = 2048


async def create(request: web.Request) -> web.Response:
    data = await read_object(request)
    body = to_struct(data, EmbeddingRequest)
    frame = embed_frame(body)
    async with request.app[MANAGER].lease(body.model, await request.read()) as lease:
        result = await lease.handle.embed(frame)
    write = _base64 if body.encoding_format == "base64" else _floats
    reply = EmbeddingReply(
        [Embedding(i, write(vector)) for i, vector in enumerate(result.vectors)],
        lease.instance.served_uid,
        {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens},
    )
    return json_response(reply, ignored_headers(data))


def embed_frame(body: EmbeddingRequest) -> Embed:
    inputs = texts_or_tokens(body.input, "input")
    if len(inputs) > MAX_INPUTS:
        raise BadRequest(f"{len(inputs)} inputs are over {MAX_INPUTS}", "send several requests", param="input")
    for i, item in enumerate(inputs):
        if not item:
            param = "input" if isinstance(body.input, str) else f"input[{i}]"
            raise BadRequest(f"{param} is empty", "send at least one character or token", param=param)
    texts = [item for item in inputs if isinstance(item, str)]
    tokens = [item for item in inputs if not isinstance(item, str)]
    return Embed(0, texts, tokens, body.dimensions)


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode("ascii")


def _floats(vector: bytes) -> list[float]:
    """Little-endian float32 to floats."""
    values = array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
