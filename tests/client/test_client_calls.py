from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing, closing

import pytest

from xin.client import AsyncClient, Client, calls
from xin.client.prompt import messages_of
from xin.errors import BadRequest, LaunchCancelled, LoadFailed, ModelNotFound, OutOfMemory, WorkerDied, XinError
from xin.protocol.node import LaunchRequest


def test_both_clients_offer_the_same_calls() -> None:
    def offered(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert offered(Client) == offered(AsyncClient)
    public = {name for name, made in vars(calls).items() if callable(made) and made.__module__ == calls.__name__}
    written = {name for name in public if not name.startswith(("_", "handle_")) and name.islower()}
    assert written - {"terminate_model", "cancel_launch_model"} <= offered(Client)


def test_a_life_of_a_model(client: Client) -> None:
    uid = client.launch(LaunchRequest(model_name="echo", model_uid="one", options={"context_length": 500}))
    assert uid == "one"
    (instance,) = client.instances()
    assert (instance.state, instance.context_length, instance.options) == ("ready", 500, {"context_length": 500})
    assert client.list_models()["one"]["model_name"] == "echo"
    assert client.describe_model("one")["model_engine"] == "echo"
    assert client.models()[0].id == "one"
    assert client.progress("one").progress == 1.0
    assert client.get_launch_model_progress("one")["progress"] == 1.0
    assert client.get_instance_info(model_uid="one")[0]["status"] == "READY"
    assert "echo" in {entry["model_name"] for entry in client.list_model_registrations("LLM")}
    assert client.get_model_registration("LLM", "echo")["model_name"] == "echo"
    assert "smollm2" in {model.model_name for model in client.local_models()}
    client.terminate("one")
    assert client.instances() == []


def test_answers_whole_and_streamed(client: Client) -> None:
    uid = client.launch_model("echo")
    messages = [{"role": "user", "content": "blue whale"}]
    whole = client.chat(uid, messages)
    assert whole.choices[0].message.content == "blue whale"
    assert whole.usage is not None

    chunks = list(client.chat_stream(uid, messages))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == "blue whale"
    assert chunks[-1].usage == whole.usage

    assert client.complete(uid, "so it goes").choices[0].text.strip() == "so it goes"
    texts = [choice.text for chunk in client.complete_stream(uid, "so it goes") for choice in chunk.choices]
    assert "".join(texts).strip() == "so it goes"
    assert len(client.embed(uid, ["a", "b"]).data) == 2
    best = client.rerank(uid, "the dog", ["a cat", "the dog barks"], top_n=1, return_documents=True).results
    assert [(one.index, one.relevance_score, one.document and one.document.text) for one in best] == [
        (1, 1.0, "the dog barks")
    ]
    tokens = client.tokenize(uid, "whale").tokens
    assert client.detokenize(uid, tokens).prompt == "whale"


def test_the_handle_takes_the_forms_of_2023_and_of_today(client: Client) -> None:
    model = client.get_model(client.launch_model(model_name="echo"))
    earlier = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]

    def words(answer: object) -> str:
        assert isinstance(answer, dict)
        return str(answer["choices"][0]["message"]["content"])

    alone = model.chat("whale")
    with_system = model.chat("whale", "Be brief.", earlier, {"max_tokens": 99})
    with_history = model.chat("whale", earlier)
    whole = model.chat([*earlier, {"role": "user", "content": "whale"}], generate_config={"temperature": 0})
    assert {words(alone), words(with_system), words(with_history), words(whole)} == {"whale"}
    assert len(earlier) == 2

    chunks = model.chat("blue whale", earlier, {"stream": True})
    assert not isinstance(chunks, dict)
    assert (
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]) == "blue whale"
    )
    with pytest.raises(BadRequest, match="tools"):
        model.chat([{"role": "user", "content": "x"}], [{"type": "function", "function": {}}])  # type: ignore[list-item]
    with pytest.raises(BadRequest, match="no role"):
        model.chat("whale", [{"content": "x"}])

    generated = model.generate("so it goes", {"max_tokens": 50})
    assert isinstance(generated, dict)
    assert generated["choices"][0]["text"].strip() == "so it goes"
    embedded = model.create_embedding(["a"])
    assert isinstance(embedded, dict)
    assert len(embedded["data"]) == 1
    ranked = model.rerank(["a cat", "the dog barks"], "the dog", 1)
    assert isinstance(ranked, dict)
    assert [(one["index"], one["document"]) for one in ranked["results"]] == [(1, None)]


def test_what_the_forms_of_chat_mean() -> None:
    asked = {"role": "user", "content": "whale"}
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    system = {"role": "system", "content": "Be brief."}
    assert messages_of("whale", None, None) == [asked]
    assert messages_of("whale", earlier, None) == [*earlier, asked]
    assert messages_of("whale", None, earlier) == [*earlier, asked]
    assert messages_of("whale", "Be brief.", earlier) == [system, *earlier, asked]
    assert messages_of("whale", "", []) == [asked]
    assert messages_of([*earlier, asked], None, None) == [*earlier, asked]


@pytest.mark.parametrize(
    ("options", "kind", "cause"),
    [
        ({"fail_load": "bad weights"}, LoadFailed, "bad weights"),
        ({"oom": True}, OutOfMemory, "memory"),
        ({"nonsense": 1}, BadRequest, "nonsense"),
    ],
)
def test_a_launch_that_fails_raises_its_class(
    client: Client, options: dict[str, object], kind: type[XinError], cause: str
) -> None:
    with pytest.raises(kind, match=cause) as caught:
        client.launch_model("echo", **options)
    assert type(caught.value) is kind
    assert caught.value.hint


def test_errors_come_with_class_hint_and_field(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="narwhal"):
        client.get_model("narwhal")
    with pytest.raises(ModelNotFound):
        client.chat_stream("narwhal", [{"role": "user", "content": "x"}])
    uid = client.launch_model("echo")
    with pytest.raises(BadRequest) as caught:
        client.chat(uid, [{"role": "user", "content": "x"}], temperature=9)
    assert caught.value.param == "temperature"
    with pytest.raises(BadRequest, match="uid"):
        client.terminate("")


def test_a_cancelled_launch(client: Client) -> None:
    uid = client.launch(LaunchRequest(model_name="echo", options={"load_seconds": 30}), wait=False)
    failures: list[XinError] = []

    def wait() -> None:
        try:
            client.launch_model("echo", load_seconds=30)
        except XinError as exc:
            failures.append(exc)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    client.cancel_launch(uid)
    waiter.join(10)
    assert [type(failure) for failure in failures] == [LaunchCancelled]


def test_a_worker_that_dies_in_mid_stream(client: Client) -> None:
    uid = client.launch_model("echo", die_after=3)
    with pytest.raises(WorkerDied):
        list(client.chat_stream(uid, [{"role": "user", "content": "one two three four five six"}]))


def test_leaving_a_stream_early_ends_the_request(client: Client) -> None:
    uid = client.launch_model("echo", tokens_per_second=5)
    with closing(client.chat_stream(uid, [{"role": "user", "content": "word " * 200}])) as chunks:
        next(chunks)
    deadline = time.monotonic() + 5
    while client.instances()[0].stats.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.instances()[0].stats.running == 0


def test_events_and_logs(client: Client) -> None:
    with closing(client.events()) as events:
        first = next(events)
        assert first.type == "snapshot"
        assert first.instances == []
        uid = client.launch_model("echo")
        states = []
        for event in events:
            if event.instance:
                states.append(event.instance.state)
                if event.instance.state == "ready":
                    break
        assert states[0] == "loading"
    assert client.logs(uid)
    with closing(client.follow_logs(uid)) as lines:
        assert next(lines).message


async def test_the_async_client(aclient: AsyncClient) -> None:
    uid = await aclient.launch_model("echo", tokens_per_second=200)
    messages = [{"role": "user", "content": "one two three"}]

    async def streamed() -> str:
        text = ""
        async with aclosing(aclient.chat_stream(uid, messages)) as chunks:
            async for chunk in chunks:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        return text

    assert await asyncio.gather(*(streamed() for _ in range(4))) == ["one two three"] * 4
    model = await aclient.get_model(uid)
    answer = await model.chat("whale")
    assert isinstance(answer, dict)
    assert answer["choices"][0]["message"]["content"] == "whale"
    chunks = await model.chat("whale", generate_config={"stream": True})
    assert not isinstance(chunks, dict)
    assert {chunk["object"] async for chunk in chunks} == {"chat.completion.chunk"}
    with pytest.raises(ModelNotFound):
        await aclient.get_model("narwhal")
    async with aclosing(aclient.events()) as events:
        first = await anext(events)
        assert [instance.model_uid for instance in first.instances or []] == [uid]
