"""Calls that ask a model: OpenAI's, and what others have made usual beside them (tokenize, rerank)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xin.client.exchange import Call, Stream, event_reader
from xin.client.prompt import Turns
from xin.client.request import Json, post, sent
from xin.protocol.openai import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    DetokenizeReply,
    EmbeddingReply,
    RerankReply,
    TokenizeReply,
)


def chat(model: str, messages: Turns, **fields: Any) -> Call[ChatCompletion]:
    """`fields` are those of OpenAI's request body and their extensions."""
    return post("/v1/chat/completions", {"model": model, "messages": messages, **fields}, ChatCompletion)


def chat_stream(model: str, messages: Turns, **fields: Any) -> Stream[ChatCompletionChunk]:
    """As `chat`; the last chunk has the usage."""
    body = {"model": model, "messages": messages, **_streamed(fields)}
    return Stream(sent("/v1/chat/completions", body), event_reader(ChatCompletionChunk))


def complete(model: str, prompt: Any, **fields: Any) -> Call[Completion]:
    return post("/v1/completions", {"model": model, "prompt": prompt, **fields}, Completion)


def complete_stream(model: str, prompt: Any, **fields: Any) -> Stream[Completion]:
    body = {"model": model, "prompt": prompt, **_streamed(fields)}
    return Stream(sent("/v1/completions", body), event_reader(Completion))


def embed(model: str, input: Any, **fields: Any) -> Call[EmbeddingReply]:
    return post("/v1/embeddings", {"model": model, "input": input, **fields}, EmbeddingReply)


def tokenize(model: str, prompt: str, **fields: Any) -> Call[TokenizeReply]:
    return post("/v1/tokenize", {"model": model, "prompt": prompt, **fields}, TokenizeReply)


def detokenize(model: str, tokens: list[int]) -> Call[DetokenizeReply]:
    return post("/v1/detokenize", {"model": model, "tokens": tokens}, DetokenizeReply)


def rerank(model: str, query: str, documents: Sequence[str], **fields: Any) -> Call[RerankReply]:
    """The documents by how well they answer the query, the best first; `top_n`, `return_documents`."""
    body = {"model": model, "query": query, "documents": list(documents), **fields}
    return post("/v1/rerank", body, RerankReply)


def _streamed(fields: Json) -> Json:
    return {**fields, "stream": True, "stream_options": {"include_usage": True}}
