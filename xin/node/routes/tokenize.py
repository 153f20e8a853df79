"""POST /v1/tokenize and /v1/detokenize, in vLLM's shape."""

from __future__ import annotations

from aiohttp import web

from xin.errors import BadRequest
from xin.node.keys import CONFIG, MANAGER
from xin.node.routes.body import json_response, read_struct
from xin.node.routes.images import take_images
from xin.node.routes.messages import checked_messages
from xin.protocol.openai import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest
from xin.worker.frames import Detokenize, Tokenize


async def tokenize(request: web.Request) -> web.Response:
    body = await read_struct(request, TokenizeRequest)
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("send either prompt or messages", param="prompt")
    messages = None if body.messages is None else checked_messages(body.messages)
    async with request.app[MANAGER].lease(body.model) as lease:
        await take_images(messages, lease.instance, may_fetch=request.app[CONFIG].fetch_images)
        result = await lease.handle.tokenize(Tokenize(0, body.prompt, messages, body.add_special_tokens))
    return json_response(TokenizeReply(result.tokens, len(result.tokens), lease.instance.context_length))


async def detokenize(request: web.Request) -> web.Response:
    body = await read_struct(request, DetokenizeRequest)
    async with request.app[MANAGER].lease(body.model) as lease:
        result = await lease.handle.detokenize(Detokenize(0, body.tokens))
    return json_response(DetokenizeReply(result.text))
