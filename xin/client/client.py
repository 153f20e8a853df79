"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Generator
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


def _call(make: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    @wraps(make)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(make(*args, **kwargs))

    return method


def _stream(make: Callable[P, Stream[T]]) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    @wraps(make)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self.follow(make(*args, **kwargs))

    return method


class Client:
    """A node at `endpoint`; connects at the first call. One client may be used by several threads.

    Errors are XinErrors: the node's own ones with their class, Unreachable when none answers, ForeignServer when
    something else does.
    """

    def __init__(self, endpoint: str = "", api_key: str | None = None) -> None:
        self.endpoint = wire.base_url(endpoint or ClientConfig().endpoint)
        self._http = httpx.Client(**wire.settings(self.endpoint))
        if key := api_key or key_for(self.endpoint):
            self._http.headers["authorization"] = f"Bearer {key}"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    health = _call(calls.health)
    node = _call(calls.node)
    proof = _call(calls.proof)
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

    def get_model(self, model_uid: str) -> ModelHandle:
        """A running model. Raises ModelNotFound."""
        return ModelHandle(self, model_uid, self.describe_model(model_uid))

    def run(self, call: Call[T]) -> T:
        try:
            request = next(call)
            while True:
                try:
                    with wire.translated(self.endpoint):
                        response = self._http.request(**wire.arguments(request))
                except XinError as exc:
                    request = call.throw(exc)
                else:
                    request = call.send(wire.reply_of(self.endpoint, response))
        except StopIteration as end:
            return cast(T, end.value)

    def follow(self, stream: Stream[T]) -> Generator[T, None, None]:
        """The stream's events. Raises at once if the node refuses; close the iterator to leave early."""
        events = self._events(stream)
        next(events)
        return cast(Generator[T, None, None], events)

    def _events(self, stream: Stream[T]) -> Generator[T | None, None, None]:
        """None once the reply has begun, then the events."""
        with wire.translated(self.endpoint), self._http.stream(**wire.arguments(stream.request)) as response:
            if response.status_code != 200:
                response.read()
                self.run(failure(wire.reply_of(self.endpoint, response)))
            yield None
            decoder = sse.Decoder()
            for chunk in response.iter_raw():
                for data in decoder.feed(chunk):
                    if data == b"[DONE]":
                        return
                    yield stream.read(data)


def _answer(
    make: Callable[Concatenate[str, P], Call[T] | Stream[T]],
) -> Callable[Concatenate[ModelHandle, P], T | Generator[T, None, None]]:
    @wraps(make)
    def method(self: ModelHandle, /, *args: P.args, **kwargs: P.kwargs) -> T | Generator[T, None, None]:
        made = make(self.model_uid, *args, **kwargs)
        return self._client.follow(made) if isinstance(made, Stream) else self._client.run(made)

    return method


class ModelHandle:
    """A running model in Xinference's shape: `model.chat("Hello")["choices"][0]["message"]["content"]`."""

    def __init__(self, client: Client, model_uid: str, description: dict[str, Any]) -> None:
        self._client = client
        self.model_uid = model_uid
        self.description = description

    chat = _answer(xinference_calls.handle_chat)
    generate = _answer(xinference_calls.handle_generate)
    create_embedding = _answer(xinference_calls.handle_create_embedding)
    rerank = _answer(xinference_calls.handle_rerank)
    transcriptions = _answer(audio_calls.handle_transcriptions)
    translations = _answer(audio_calls.handle_translations)
