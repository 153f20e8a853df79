"""OpenAI's request and response bodies, as the API reference gives them, with the extensions that open models need.

Request fields are of three kinds (docs/api.md): honoured; documented no-ops (NO_OPS, named in the response header
`xin-ignored`); refused by name. An unknown field is refused. `null` always means unset.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

NO_OPS = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
REFUSED = {
    "functions": "use tools and tool_choice",
    "function_call": "use tools and tool_choice",
    "audio": "audio output is not supported",
    "prediction": "predicted outputs are not supported",
    "web_search_options": "web search is not supported",
}

Count = Annotated[int, Meta(ge=1)]
Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
ModelName = Annotated[str, Meta(min_length=1, max_length=512)]
Stop = str | Annotated[list[str], Meta(max_length=64)]
Bias = Annotated[float, Meta(ge=-100.0, le=100.0)]


class JsonSchema(msgspec.Struct):
    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """`regex` and `grammar` are xin's own types, with the pattern or grammar in the field of that name."""

    type: Literal["text", "json_object", "json_schema", "regex", "grammar"]
    json_schema: JsonSchema | None = None
    regex: str | None = None
    grammar: str | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False
    include_obfuscation: bool = False


class SamplingFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What both dialects share."""

    model: ModelName
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    repeat_penalty: Annotated[float, Meta(gt=0.0, le=10.0)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=10.0)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    logit_bias: dict[str, Bias] | None = None
    ignore_eos: bool | None = None
    stop: Stop | None = None
    stop_token_ids: list[Tokens] | None = None
    max_tokens: Tokens | None = None
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None


class ChatCompletionRequest(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    messages: list[dict[str, Any]] | str
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None


class CompletionRequest(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    prompt: str | list[str | Tokens | list[Tokens]]  # a text, texts, token ids, or lists of them
    suffix: str | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class EmbeddingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    model: ModelName
    input: str | list[str | Tokens | list[Tokens]]  # as CompletionRequest.prompt
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    user: Any = None


class RerankDocument(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class RerankRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`return_len` and `kwargs` (an empty object as text) are what Xinference's client sends."""

    model: ModelName
    query: str
    documents: list[str | RerankDocument]
    top_n: Count | None = None
    return_documents: bool = False
    return_len: bool = False
    kwargs: str | None = None
    user: Any = None


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """As vLLM's: `prompt`, or `messages` rendered by the chat template."""

    model: ModelName
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    model: ModelName
    tokens: list[Tokens]


class TokenizeReply(msgspec.Struct):
    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeReply(msgspec.Struct):
    prompt: str


# ---- responses


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int = 0


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    content: list[ChatLogprob] | None = None
    refusal: None = None


class CompletionLogprobs(msgspec.Struct):
    """Legacy shape; offsets count characters of the prompt (with echo) and the text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class FunctionCall(msgspec.Struct):
    """`arguments` is JSON, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class FunctionCallDelta(msgspec.Struct):
    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str = ""


class ToolCallDelta(msgspec.Struct):
    """The first of each call has id, type and name; all have the next part of the arguments."""

    index: int
    function: FunctionCallDelta
    id: str | msgspec.UnsetType = msgspec.UNSET
    type: Literal["function"] | msgspec.UnsetType = msgspec.UNSET


class ChatMessage(msgspec.Struct):
    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatMessage
    finish_reason: str | None
    logprobs: ChatLogprobs | None = None


class ChatCompletion(msgspec.Struct, tag_field="object", tag="chat.completion"):
    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class ChatDelta(msgspec.Struct):
    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCallDelta] | msgspec.UnsetType = msgspec.UNSET


class ChatChunkChoice(msgspec.Struct):
    index: int
    delta: ChatDelta
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(msgspec.Struct, tag_field="object", tag="chat.completion.chunk"):
    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    system_fingerprint: str | None = None


class CompletionChoice(msgspec.Struct):
    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(msgspec.Struct, tag_field="object", tag="text_completion"):
    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    system_fingerprint: str | None = None


class Embedding(msgspec.Struct, tag_field="object", tag="embedding"):
    index: int
    embedding: list[float] | str


class EmbeddingReply(msgspec.Struct, tag_field="object", tag="list"):
    data: list[Embedding]
    model: str
    usage: dict[str, int]


class RerankResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: RerankDocument | None = None


class RerankReply(msgspec.Struct):
    """The best first."""

    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: dict[str, Any] | None = None


class Model(msgspec.Struct, tag_field="object", tag="model"):
    """`GET /v1/models/{uid}`: OpenAI's four fields, then what the Xinference client reads."""

    id: str
    created: int
    owned_by: str
    model_type: str = "LLM"
    model_name: str = ""
    model_engine: str = ""
    model_format: str = ""
    model_size_in_billions: float | None = None
    quantization: str = ""
    model_ability: list[str] = []
    model_lang: list[str] = []
    context_length: int = 0
    state: str = "ready"
    replica: int = 1
    address: str = ""


class ModelList(msgspec.Struct, tag_field="object", tag="list"):
    data: list[Model]
