"""Every call of a node's API, written once: arguments to request, reply to value.

The calls in Xinference's shape give plain dicts, as programs written for it index them; xin's own give structs.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import quote

import msgspec

from xin.client.exchange import Call, Request, Stream, event_reader, exchange, reader
from xin.client.prompt import Turns, messages_of, tools_of
from xin.errors import BadRequest
from xin.protocol.doctor import Checkup
from xin.protocol.node import (
    CatalogueModel,
    Cluster,
    Event,
    FilesRemoved,
    Instance,
    Job,
    JobAction,
    LaunchReply,
    LaunchRequest,
    LocalModel,
    LogLine,
    NodeInfo,
    OptionSpec,
    Plan,
    Recommendations,
    RemoveFiles,
    ScaleReply,
    WeightFiles,
)
from xin.protocol.openai import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    DetokenizeReply,
    EmbeddingReply,
    Model,
    ModelList,
    TokenizeReply,
)

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode


class Progress(msgspec.Struct):
    """How far a launch is: `progress` from 0 to 1."""

    progress: float
    stage: str
    instance: Instance | None = None


class Health(msgspec.Struct):
    status: str
    version: str


# ---- xin's own


def health() -> Call[Health]:
    return _get("/health", Health)


def node() -> Call[NodeInfo]:
    """The node itself: devices, engines, version."""
    return _get("/api/node", NodeInfo)


def cluster() -> Call[Cluster]:
    """The node and those that it sees."""
    return _get("/api/cluster", Cluster)


def doctor() -> Call[Checkup]:
    """What is well with the node, its machine, network and cluster, and what is not."""
    return _get("/api/doctor", Checkup)


def instances() -> Call[list[Instance]]:
    """Every launch on the node, in whatever state."""
    return _get("/api/instances", list[Instance])


def models() -> Call[list[Model]]:
    """What can be asked by its uid, in OpenAI's shape."""
    listed = yield from _get("/v1/models", ModelList)
    data: list[Model] = listed.data
    return data


def local_models() -> Call[list[LocalModel]]:
    """What the node can launch."""
    return _get("/api/models", list[LocalModel])


def catalogue() -> Call[list[CatalogueModel]]:
    """All that could be launched: families, with what is here of each, then what is here of no family."""
    return _get("/api/catalogue", list[CatalogueModel])


def recommend(n: int = 5, ability: str = "chat", *, here: bool = False) -> Call[Recommendations]:
    """What the nodes of the cluster run well, the best first; `here`: only the node that is asked."""
    only = {"here": "true"} if here else {}
    request = Request("GET", "/api/recommend", params={"n": str(n), "ability": ability, **only})
    return exchange(request, reader(Recommendations))


def launch(request: LaunchRequest, *, wait: bool = True, on_demand: bool = False) -> Call[str]:
    """Launch a model and give its uid; `wait` until it is ready, or has failed with the cause.

    `on_demand`: it may be unloaded when idle, and does not come back when the node starts again.
    """
    fields = {key: value for key, value in msgspec.to_builtins(request).items() if value is not None}
    options = fields.pop("options")
    return _launch({**options, **fields}, wait, on_demand)


def launch_anywhere(request: LaunchRequest, *, on_demand: bool = False) -> Call[LaunchReply]:
    """As `launch` without waiting; also tells which node of the cluster has it, and why that one."""
    fields = {key: value for key, value in msgspec.to_builtins(request).items() if value is not None}
    return _launch_reply({**fields.pop("options"), **fields}, wait=False, on_demand=on_demand)


def scale(uid: str, replica: int, *, wait: bool = True) -> Call[ScaleReply]:
    """Run so many replicas in all, over the nodes; those that are too many answer what they have, and end then."""
    params = {} if wait else {"wait_ready": "false"}
    body = _encode({"replica": replica})
    return exchange(Request("POST", f"{_model(uid)}/scale", params, body, timeout=None), reader(ScaleReply))


def terminate(uid: str, *, kill: bool = False, here: bool = False) -> Call[None]:
    """End it, all replicas on all nodes, or those of this node; `kill` its process at once, even one that hangs."""
    params = {name: "true" for name, wanted in (("kill", kill), ("here", here)) if wanted}
    return exchange(Request("DELETE", _model(uid), params, timeout=None), _nothing)


def cancel_launch(uid: str) -> Call[None]:
    return exchange(Request("POST", f"{_model(uid)}/cancel", timeout=None), _nothing)


def progress(uid: str) -> Call[Progress]:
    return _get(f"{_model(uid)}/progress", Progress)


def events(*, samples: bool = False, peer: bool = False) -> Stream[Event]:
    """What happens on the node, a snapshot first; `samples` adds devices and workers once a second.

    `peer`: only what the node tells of itself, nothing of other nodes.
    """
    params = {name: "1" for name, wanted in (("samples", samples), ("peer", peer)) if wanted}
    return Stream(Request("GET", "/api/events", params, timeout=60.0), event_reader(Event))


def proof(challenge: str) -> Call[dict[str, str]]:
    """A node's answer to `challenge`, which shows that it holds the nonce of its file."""
    return exchange(Request("GET", "/api/proof", {"challenge": challenge}, timeout=3.0), reader(dict[str, str]))


def logs(uid: str, *, tail: int = 200) -> Call[list[LogLine]]:
    """The last lines of an instance's log."""
    return exchange(Request("GET", f"/api/logs/{_path(uid)}", {"tail": str(tail)}), reader(list[LogLine]))


def follow_logs(uid: str, *, tail: int = 200) -> Stream[LogLine]:
    """The last lines, then those that come."""
    params = {"tail": str(tail), "follow": "1"}
    return Stream(Request("GET", f"/api/logs/{_path(uid)}", params, timeout=60.0), event_reader(LogLine))


def jobs() -> Call[list[Job]]:
    """What the node works at and the last of what it did, oldest first."""
    return _get("/api/jobs", list[Job])


def job(job_id: str) -> Call[Job]:
    return _get(f"/api/jobs/{_segment(job_id, 'id')}", Job)


def job_log(job_id: str) -> Call[list[LogLine]]:
    return _get(f"/api/jobs/{_segment(job_id, 'id')}/log", list[LogLine])


def start_job(kind: str, **fields: Any) -> Call[Job]:
    """launch: LaunchRequest's fields · install: name, build, accelerator · quantize: source, quantization, name."""
    return _post("/api/jobs", {"kind": kind, **fields}, Job)


def job_action(job_id: str, action: JobAction) -> Call[Job]:
    """The job afterwards; with retry the new one."""
    return exchange(
        Request("POST", f"/api/jobs/{_segment(job_id, 'id')}/{_segment(action, 'action')}", timeout=None), reader(Job)
    )


def plan(model_name: str, options: Json | None = None, **fields: Any) -> Call[Plan]:
    """Which quantization of a model would fit on which device. `fields`: others of PlanRequest."""
    return _post("/api/plan", {"model_name": model_name, "options": options or {}, **fields}, Plan)


def engine_options(engine: str) -> Call[list[OptionSpec]]:
    """The launch options that an engine takes."""
    return _get(f"/api/engines/{_segment(engine, 'engine')}/options", list[OptionSpec])


def files() -> Call[WeightFiles]:
    """Every weight file on the node's machine, with its size and who uses it."""
    return _get("/api/files", WeightFiles)


def remove_files(name: str, *, foreign: bool = False, dry_run: bool = False) -> Call[FilesRemoved]:
    """Remove the weights of a model, or a weight file by its path; `foreign`: also other programs'."""
    order = RemoveFiles(name=name, foreign=foreign, dry_run=dry_run)
    return _post("/api/files/remove", msgspec.to_builtins(order), FilesRemoved)


def stop() -> Call[None]:
    """Ask the node to drain and end."""
    return exchange(Request("POST", "/api/stop"), _nothing)


# ---- OpenAI's


def chat(model: str, messages: Turns, **fields: Any) -> Call[ChatCompletion]:
    """`fields` are those of OpenAI's request body and their extensions."""
    return _post("/v1/chat/completions", {"model": model, "messages": messages, **fields}, ChatCompletion)


def chat_stream(model: str, messages: Turns, **fields: Any) -> Stream[ChatCompletionChunk]:
    """As `chat`; the last chunk has the usage."""
    body = {"model": model, "messages": messages, **_streamed(fields)}
    return Stream(_request("/v1/chat/completions", body), event_reader(ChatCompletionChunk))


def complete(model: str, prompt: Any, **fields: Any) -> Call[Completion]:
    return _post("/v1/completions", {"model": model, "prompt": prompt, **fields}, Completion)


def complete_stream(model: str, prompt: Any, **fields: Any) -> Stream[Completion]:
    body = {"model": model, "prompt": prompt, **_streamed(fields)}
    return Stream(_request("/v1/completions", body), event_reader(Completion))


def embed(model: str, input: Any, **fields: Any) -> Call[EmbeddingReply]:
    return _post("/v1/embeddings", {"model": model, "input": input, **fields}, EmbeddingReply)


def tokenize(model: str, prompt: str, **fields: Any) -> Call[TokenizeReply]:
    return _post("/v1/tokenize", {"model": model, "prompt": prompt, **fields}, TokenizeReply)


def detokenize(model: str, tokens: list[int]) -> Call[DetokenizeReply]:
    return _post("/v1/detokenize", {"model": model, "tokens": tokens}, DetokenizeReply)


# ---- in Xinference's shape


def launch_model(
    model_name: str,
    *,
    model_type: str | None = None,
    model_engine: str | None = None,
    model_uid: str | None = None,
    model_size_in_billions: int | float | str | None = None,
    model_format: str | None = None,
    quantization: str | None = None,
    replica: int = 1,
    model_path: str | None = None,
    keep_alive: float | str | None = None,
    wait_ready: bool = True,
    **options: Any,
) -> Call[str]:
    """Launch and give the uid. The node chooses what is left out; `options` are the engine's."""
    named: Json = {
        "model_name": model_name,
        "model_type": model_type,
        "model_engine": model_engine,
        "model_uid": model_uid,
        "model_size_in_billions": model_size_in_billions,
        "model_format": model_format,
        "quantization": quantization,
        "replica": replica,
        "model_path": model_path,
        "keep_alive": keep_alive,
    }
    return _launch({key: value for key, value in {**options, **named}.items() if value is not None}, wait_ready)


def list_models() -> Call[dict[str, Json]]:
    """Running models by uid."""
    listed = yield from _get("/v1/models", dict[str, Any])
    return {model["id"]: model for model in listed["data"]}


def describe_model(model_uid: str) -> Call[Json]:
    return _get(_model(model_uid), dict[str, Any])


def get_launch_model_progress(model_uid: str) -> Call[Json]:
    return _get(f"{_model(model_uid)}/progress", dict[str, Any])


def get_instance_info(model_name: str | None = None, model_uid: str | None = None) -> Call[list[Json]]:
    given = {"model_name": model_name, "model_uid": model_uid}
    params = {key: value for key, value in given.items() if value is not None}
    return exchange(Request("GET", "/v1/models/instances", params), reader(list[dict[str, Any]]))


def list_model_registrations(model_type: str, detailed: bool = False) -> Call[list[Json]]:
    """The models that can be launched."""
    params = {"detailed": "true" if detailed else "false"}
    request = Request("GET", f"/v1/model_registrations/{quote(model_type, safe='')}", params)
    return exchange(request, reader(list[dict[str, Any]]))


def get_model_registration(model_type: str, model_name: str) -> Call[Json]:
    return _get(f"/v1/model_registrations/{quote(model_type, safe='')}/{quote(model_name)}", dict[str, Any])


def register_model(model_type: str, model: str, persist: bool = True, worker_ip: str | None = None) -> Call[None]:
    """Add a model by its description: JSON in Xinference's schema, or TOML or JSON in the catalogue's."""
    body = {"model": model, "persist": persist, "worker_ip": worker_ip}
    return exchange(_request(f"/v1/model_registrations/{quote(model_type, safe='')}", body), _nothing)


def unregister_model(model_type: str, model_name: str) -> Call[None]:
    """Forget a model that was registered; its weights stay."""
    path = f"/v1/model_registrations/{quote(model_type, safe='')}/{_segment(model_name, 'model_name')}"
    return exchange(Request("DELETE", path, timeout=None), _nothing)


def handle_chat(
    model_uid: str,
    /,
    prompt: str | Turns | None = None,
    system_prompt: str | Turns | None = None,
    chat_history: Turns | Json | None = None,
    generate_config: Json | None = None,
    *,
    messages: Turns | None = None,
    tools: Turns | None = None,
    enable_thinking: bool | None = None,
) -> Call[Json] | Stream[Json]:
    """One answer; with `"stream": True` in `generate_config`, its chunks.

    `prompt` is the user's words, after which a system prompt (a string) or the earlier turns (a list) may stand, or
    the whole list of messages. None of these lists is changed: append the answer to your history yourself.
    """
    if isinstance(chat_history, dict):  # 2023's ChatGLM handle: prompt, history, config
        chat_history, generate_config = None, chat_history
    first = messages if messages is not None else prompt
    if first is None:
        raise BadRequest("chat needs a prompt", 'model.chat("What is the largest animal?")', param="prompt")
    tools = tools if tools is not None else tools_of(system_prompt)
    second = None if tools is not None and not isinstance(system_prompt, str) else system_prompt
    body: Json = {"model": model_uid, "messages": messages_of(first, second, chat_history)}
    if tools:
        body["tools"] = list(tools)
    if enable_thinking is not None:
        body["enable_thinking"] = enable_thinking
    return _answer("/v1/chat/completions", {**body, **(generate_config or {})})


def handle_generate(model_uid: str, /, prompt: str, generate_config: Json | None = None) -> Call[Json] | Stream[Json]:
    """The text after `prompt`; with `"stream": True` in `generate_config`, its chunks."""
    return _answer("/v1/completions", {"model": model_uid, "prompt": prompt, **(generate_config or {})})


def handle_create_embedding(model_uid: str, /, input: str | list[str], **fields: Any) -> Call[Json]:
    return _post("/v1/embeddings", {"model": model_uid, "input": input, **fields}, dict[str, Any])


# ---- parts


def _get(path: str, kind: Any) -> Call[Any]:
    return exchange(Request("GET", path), reader(kind))


def _post(path: str, body: Json, kind: Any) -> Call[Any]:
    return exchange(_request(path, body), reader(kind))


def _request(path: str, body: Json, method: Literal["POST"] = "POST") -> Request:
    """A model takes as long as it takes, so nothing here times out."""
    return Request(method, path, body=_encode(body), timeout=None)


def _answer(path: str, body: Json) -> Call[Json] | Stream[Json]:
    if body.get("stream"):
        return Stream(_request(path, body), _chunk)
    return _post(path, body, dict[str, Any])


def _chunk(data: bytes) -> Json:
    chunk: Json = msgspec.json.decode(data)
    return _raise_event(data) if "error" in chunk else chunk


_raise_event = event_reader(ChatCompletionChunk)


def _launch(body: Json, wait: bool, on_demand: bool = False) -> Call[str]:
    reply = yield from _launch_reply(body, wait, on_demand)
    return reply.model_uid


def _launch_reply(body: Json, wait: bool, on_demand: bool) -> Call[LaunchReply]:
    given = {"wait_ready": "" if wait else "false", "on_demand": "true" if on_demand else ""}
    params = {key: value for key, value in given.items() if value}
    request = Request("POST", "/v1/models", params, _encode(body), timeout=None)
    return exchange(request, reader(LaunchReply))


def _streamed(fields: Json) -> Json:
    return {**fields, "stream": True, "stream_options": {"include_usage": True}}


def _nothing(body: bytes) -> None:
    """The body says no more than the status."""


def _model(uid: str) -> str:
    return f"/v1/models/{_path(uid)}"


def _path(uid: str) -> str:
    if not uid or uid in (".", ".."):
        raise BadRequest(f"{uid!r} is not the uid of a model", "xin list shows the uids", param="model_uid")
    return quote(uid, safe="")


def _segment(text: str, param: str) -> str:
    if not text or text in (".", ".."):
        raise BadRequest(f"{text!r} is no {param}", param=param)
    return quote(text, safe="")
