"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from xin.errors import BadRequest, UnsupportedParameter
from xin.node.keys import CONFIG, MANAGER
from xin.node.manager import Lease
from xin.node.routes.body import encoded, ignored_headers, json_response, read_object, to_struct
from xin.node.routes.chunks import ChatChunks, Head
from xin.node.routes.generation import Answer, Generations, collect, generating
from xin.node.routes.images import take_images
from xin.node.routes.logprobs import chat_logprobs
from xin.node.routes.messages import checked_messages, take_legacy_history
from xin.node.routes.sampling import (
    check_stream_options,
    constraint_of,
    sampling_of,
    stops_of,
    wants_usage,
    with_defaults,
)
from xin.node.routes.streaming import stream_answer
from xin.node.routes.tools import ignored_strict, joined, tools_of
from xin.protocol.openai import ChatChoice, ChatCompletion, ChatCompletionRequest, ChatMessage
from xin.worker.frames import Generate


async def create(request: web.Request) -> web.StreamResponse:
    data = await read_object(request)
    take_legacy_history(data)
    body = to_struct(data, ChatCompletionRequest)
    frame = generate_frame(body)
    headers = ignored_headers(data, ["tools.function.strict"] if ignored_strict(frame.tools) else [])
    async with request.app[MANAGER].lease(body.model, await request.read()) as lease:
        await take_images(frame.messages, lease.instance, may_fetch=request.app[CONFIG].fetch_images)
        frame.sampling = with_defaults(frame.sampling, body, lease.instance)
        return await _answer(request, body, lease, frame, headers)


async def _answer(
    request: web.Request, body: ChatCompletionRequest, lease: Lease, frame: Generate, headers: dict[str, str]
) -> web.StreamResponse:
    async with generating(lease.handle, [frame]) as running:
        head = Head("chatcmpl", lease.instance)
        if body.stream:
            chunks = ChatChunks(head, usage=wants_usage(body), top_logprobs=body.top_logprobs or 0)
            return await stream_answer(request, running, chunks, headers, usage=wants_usage(body))
        answers = await collect(running)
        return json_response(_completion(head, body, answers, running), headers)


def generate_frame(body: ChatCompletionRequest) -> Generate:
    """What the worker shall do; BadRequest where fields contradict each other."""
    check_stream_options(body)
    _check_outputs(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise BadRequest("top_logprobs needs logprobs", "set logprobs to true", param="top_logprobs")
    return Generate(
        0,
        messages=checked_messages(body.messages),
        sampling=sampling_of(body),
        max_tokens=_max_tokens(body),
        n=body.n or 1,
        stop=stops_of(body),
        stop_token_ids=body.stop_token_ids or [],
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        constraint=constraint_of(body.response_format),
        template_kwargs=_template_kwargs(body),
        tools=tools_of(body),
    )


def _check_outputs(body: ChatCompletionRequest) -> None:
    for modality in body.modalities or []:
        if modality != "text":
            raise UnsupportedParameter(
                f"modalities: {modality[:80]!r} is not supported", "use text", param="modalities"
            )
    if body.verbosity not in (None, "medium"):
        raise UnsupportedParameter("verbosity is not supported", "leave verbosity out", param="verbosity")


def _max_tokens(body: ChatCompletionRequest) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise BadRequest(
            f"max_tokens is {old} and max_completion_tokens is {new}",
            "they are the same limit: send one of them",
            param="max_tokens",
        )
    return old if new is None else new


def _template_kwargs(body: ChatCompletionRequest) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if body.reasoning_effort is not None:
        kwargs["reasoning_effort"] = body.reasoning_effort
        if body.reasoning_effort == "none":
            kwargs["enable_thinking"] = False
    if body.enable_thinking is not None:
        kwargs["enable_thinking"] = body.enable_thinking
    given = body.chat_template_kwargs or {}
    encoded(given, "chat_template_kwargs")
    if "tools" in given:
        message = "chat_template_kwargs.tools: tools have a field of their own"
        raise BadRequest(message, "send them as tools", param="chat_template_kwargs.tools")
    return {**kwargs, **given}


def _completion(head: Head, body: ChatCompletionRequest, answers: list[Answer], running: Generations) -> ChatCompletion:
    choices = []
    for index, answer in enumerate(answers):
        message = ChatMessage("assistant", answer.text)
        if answer.reasoning:
            message.reasoning_content = answer.reasoning
        if answer.calls:
            message.tool_calls = joined(answer.calls)
            message.content = answer.text or None
        logprobs = chat_logprobs(answer.logprobs, body.top_logprobs or 0) if body.logprobs else None
        choices.append(ChatChoice(index, message, answer.finish_reason, logprobs))
    return ChatCompletion(head.id, head.created, head.model, choices, running.usage(), head.fingerprint)
