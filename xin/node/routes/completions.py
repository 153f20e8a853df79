"""POST /v1/completions."""

from __future__ import annotations

from aiohttp import web

from xin.errors import BadRequest
from xin.node.keys import MANAGER
from xin.node.manager import Lease
from xin.node.routes.body import ignored_headers, json_response, read_object, to_struct
from xin.node.routes.chunks import CompletionChunks, Head
from xin.node.routes.generation import Answer, Generations, collect, generating
from xin.node.routes.inputs import texts_or_tokens
from xin.node.routes.logprobs import LegacyLogprobs, mean_logprob
from xin.node.routes.sampling import (
    check_stream_options,
    constraint_of,
    sampling_of,
    stops_of,
    wants_usage,
    with_defaults,
)
from xin.node.routes.streaming import stream_answer
from xin.protocol.openai import Completion, CompletionChoice, CompletionRequest
from xin.worker.frames import Generate

MAX_CHOICES = 2048


async def create(request: web.Request) -> web.StreamResponse:
    data = await read_object(request)
    body = to_struct(data, CompletionRequest)
    frames = generate_frames(body)
    headers = ignored_headers(data)
    async with request.app[MANAGER].lease(body.model, await request.read()) as lease:
        for frame in frames:
            frame.sampling = with_defaults(frame.sampling, body, lease.instance)
        return await _answer(request, body, lease, frames, headers)


async def _answer(
    request: web.Request, body: CompletionRequest, lease: Lease, frames: list[Generate], headers: dict[str, str]
) -> web.StreamResponse:
    async with generating(lease.handle, frames) as running:
        head = Head("cmpl", lease.instance)
        if body.stream:
            chunks = CompletionChunks(head, usage=wants_usage(body), top_logprobs=body.logprobs or 0)
            return await stream_answer(request, running, chunks, headers, usage=wants_usage(body))
        answers = _best(await collect(running), running, body)
        return json_response(_completion(head, body, answers, running), headers)


def generate_frames(body: CompletionRequest) -> list[Generate]:
    """One frame per prompt; BadRequest where fields contradict each other."""
    check_stream_options(body)
    prompts = texts_or_tokens(body.prompt, "prompt")
    choices = _choices(body)
    if choices * len(prompts) > MAX_CHOICES:
        raise BadRequest(f"{len(prompts)} prompts with {choices} choices are over {MAX_CHOICES}", param="prompt")
    ranked = choices > (body.n or 1)
    frames = []
    for prompt in prompts:
        if body.suffix and not isinstance(prompt, str):
            raise BadRequest("suffix needs a prompt of text, not of token ids", param="suffix")
        frame = Generate(
            0,
            prompt=prompt if isinstance(prompt, str) else None,
            tokens=None if isinstance(prompt, str) else prompt,
            suffix=body.suffix or None,
            sampling=sampling_of(body),
            max_tokens=body.max_tokens,
            n=choices,
            stop=stops_of(body),
            stop_token_ids=body.stop_token_ids or [],
            logprobs=0 if ranked and body.logprobs is None else body.logprobs,
            echo=bool(body.echo),
            constraint=constraint_of(body.response_format),
        )
        frames.append(frame)
    return frames


def _choices(body: CompletionRequest) -> int:
    """How many answers to generate for each prompt."""
    n = body.n or 1
    best_of = body.best_of or n
    if best_of < n:
        raise BadRequest(f"best_of is {best_of}, less than n = {n}", param="best_of")
    if best_of > n and body.stream:
        raise BadRequest("best_of cannot be streamed: the best is known at the end", param="best_of")
    return best_of


def _best(answers: list[Answer], running: Generations, body: CompletionRequest) -> list[Answer]:
    """The `n` likeliest answers per prompt, by mean logprob of their own tokens."""
    n = body.n or 1
    if running.n == n:
        return answers
    kept: list[Answer] = []
    for i, stream in enumerate(running.streams):
        echoed = stream.prompt_tokens if body.echo else 0
        group = answers[i * running.n : (i + 1) * running.n]
        group.sort(key=lambda answer: mean_logprob(answer.logprobs[echoed:]), reverse=True)
        kept += group[:n]
    return kept


def _completion(head: Head, body: CompletionRequest, answers: list[Answer], running: Generations) -> Completion:
    choices = []
    for index, answer in enumerate(answers):
        logprobs = None if body.logprobs is None else LegacyLogprobs(body.logprobs).take(answer.logprobs)
        choices.append(CompletionChoice(index, answer.reasoning + answer.text, answer.finish_reason, logprobs))
    return Completion(head.id, head.created, head.model, choices, running.usage(), head.fingerprint)
