"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import httpx

from xin.client import audio_calls, calls, model_calls, trust_calls, wire, xinference_calls
from xin.client.credentials import key_for
from xin.client.exchange import Call, Stream, failure
from xin.config import ClientConfig
from xin.errors import XinError
from xin.protocol import sse

P = ParamSpec("P")
T = TypeVar("T")


def _call(make: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @wraps(make)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(make(*args, **kwargs))

    return method


def _stream(make: Callable[P, Stream[T]]) -> Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]:
    @wraps(make)
    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self.follow(make(*args, **kwargs))

    return method


class AsyncClient:
    """As `Client`, awaited. Streams are async generators: leave one early inside `contextlib.aclosing`."""

    def __init__(self, endpoint: str = "", api_key: str | None = None) -> None:
        self.endpoint = wire.base_url(endpoint or ClientConfig().endpoint)
        self._http = httpx.AsyncClient(**wire.settings(self.endpoint))
        if key := api_key or key_for(self.endpoint):
            self._http.headers["authorization"] = f"Bearer {key}"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    health = _call(calls.health)
    node = _call(calls.node)
    cluster = _call(calls.cluster)
    doctor = _call(calls.doctor)
    instances = _call(calls.instances)
    models = _call(calls.models)
    local_models = _call(calls.local_models)
    catalogue = _call(calls.catalogue)
    recommend = _call(calls.recommend)
    launch = _call(calls.launch)
    launch_anywhere = _call(calls.launch_anywhere)
    scale = _call(calls.scale)
    terminate = _call(calls.terminate)
    cancel_launch = _call(calls.cancel_launch)
    progress = _call(calls.progress)
    events = _stream(calls.events)
    proof = _call(calls.proof)
    logs = _call(calls.logs)
    follow_logs = _stream(calls.follow_logs)
    jobs = _call(calls.jobs)
    job = _call(calls.job)
    job_log = _call(calls.job_log)
    start_job = _call(calls.start_job)
    job_action = _call(calls.job_action)
    plan = _call(calls.plan)
    engine_options = _call(calls.engine_options)
    files = _call(calls.files)
    remove_files = _call(calls.remove_files)
    stop = _call(calls.stop)

    api_keys = _call(trust_calls.keys)
    add_key = _call(trust_calls.add_key)
    revoke_key = _call(trust_calls.revoke_key)
    door = _call(trust_calls.door)
    open_door = _call(trust_calls.open_door)
    close_door = _call(trust_calls.close_door)
    certificate = _call(trust_calls.certificate)
    members = _call(trust_calls.members)
    open_pairing = _call(trust_calls.open_pairing)
    close_pairing = _call(trust_calls.close_pairing)
    join_cluster = _call(trust_calls.join_cluster)
    rotate_cluster = _call(trust_calls.rotate_cluster)
    revoke_member = _call(trust_calls.revoke_member)
    leave_cluster = _call(trust_calls.leave_cluster)

    chat = _call(model_calls.chat)
    chat_stream = _stream(model_calls.chat_stream)
    complete = _call(model_calls.complete)
    complete_stream = _stream(model_calls.complete_stream)
    embed = _call(model_calls.embed)
    rerank = _call(model_calls.rerank)
    transcribe = _call(audio_calls.transcribe)
    transcribe_text = _call(audio_calls.transcribe_text)
    transcribe_stream = _stream(audio_calls.transcribe_stream)
    tokenize = _call(model_calls.tokenize)
    detokenize = _call(model_calls.detokenize)

    launch_model = _call(xinference_calls.launch_model)
    list_models = _call(xinference_calls.list_models)
    describe_model = _call(xinference_calls.describe_model)
    terminate_model = _call(calls.terminate)
    cancel_launch_model = _call(calls.cancel_launch)
    get_launch_model_progress = _call(xinference_calls.get_launch_model_progress)
    get_instance_info = _call(xinference_calls.get_instance_info)
    list_model_registrations = _call(xinference_calls.list_model_registrations)
    get_model_registration = _call(xinference_calls.get_model_registration)
    register_model = _call(xinference_calls.register_model)
    unregister_model = _call(xinference_calls.unregister_model)

    async def get_model(self, model_uid: str) -> AsyncModelHandle:
        """A running model. Raises ModelNotFound."""
        return AsyncModelHandle(self, model_uid, await self.describe_model(model_uid))

    async def run(self, call: Call[T]) -> T:
        try:
            request = next(call)
            while True:
                try:
                    with wire.translated(self.endpoint):
                        response = await self._http.request(**wire.arguments(request))
                except XinError as exc:
                    request = call.throw(exc)
                else:
                    request = call.send(wire.reply_of(self.endpoint, response))
        except StopIteration as end:
            return cast(T, end.value)

    async def follow(self, stream: Stream[T]) -> AsyncGenerator[T, None]:
        """The stream's events. Raises at the first step if the node refuses."""
        with wire.translated(self.endpoint):
            async with self._http.stream(**wire.arguments(stream.request)) as response:
                if response.status_code != 200:
                    await response.aread()
                    await self.run(failure(wire.reply_of(self.endpoint, response)))
                decoder = sse.Decoder()
                async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_raw())) as chunks:
                    async for chunk in chunks:
                        for data in decoder.feed(chunk):
                            if data == b"[DONE]":
                                return
                            yield stream.read(data)


def _answer(
    make: Callable[Concatenate[str, P], Call[T] | Stream[T]],
) -> Callable[Concatenate[AsyncModelHandle, P], Coroutine[Any, Any, T | AsyncGenerator[T, None]]]:
    @wraps(make)
    async def method(self: AsyncModelHandle, /, *args: P.args, **kwargs: P.kwargs) -> T | AsyncGenerator[T, None]:
        made = make(self.model_uid, *args, **kwargs)
        return self._client.follow(made) if isinstance(made, Stream) else await self._client.run(made)

    return method


class AsyncModelHandle:
    """As `ModelHandle`, awaited; a streamed answer is an async generator."""

    def __init__(self, client: AsyncClient, model_uid: str, description: dict[str, Any]) -> None:
        self._client = client
        self.model_uid = model_uid
        self.description = description

    chat = _answer(xinference_calls.handle_chat)
    generate = _answer(xinference_calls.handle_generate)
    create_embedding = _answer(xinference_calls.handle_create_embedding)
    rerank = _answer(xinference_calls.handle_rerank)
    transcriptions = _answer(audio_calls.handle_transcriptions)
    translations = _answer(audio_calls.handle_translations)
