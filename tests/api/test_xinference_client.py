"""The unmodified xinference-client 4.1 against a real node."""

from __future__ import annotations

import pytest
from live_node import LiveNode
from xinference_client import RESTfulClient


@pytest.fixture
def node(tmp_path):
    with LiveNode(tmp_path) as node:
        yield node


def test_launch_ask_and_terminate(node: LiveNode):
    client = RESTfulClient(node.url)
    uid = client.launch_model(model_name="echo", model_engine="echo")
    assert list(client.list_models()) == [uid]
    assert client.describe_model(uid)["model_format"] == "echo"
    model = client.get_model(uid)
    answer = model.chat(messages=[{"role": "user", "content": "good morning"}])
    assert answer["choices"][0]["message"]["content"] == "good morning"
    chunks = model.chat(messages=[{"role": "user", "content": "good morning"}], generate_config={"stream": True})
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "good morning"
    assert model.generate("one two", generate_config={"max_tokens": 1})["choices"][0]["text"] == "one"
    client.terminate_model(uid)
    assert client.list_models() == {}


def test_the_snippet_of_2023_works_as_it_stands(node: LiveNode):
    client = RESTfulClient(node.url)
    model = client.get_model(client.launch_model(model_name="echo"))
    answer = model.chat("What is the largest animal?", [], generate_config={"max_tokens": 1024})
    assert answer["choices"][0]["message"]["content"] == "What is the largest animal?"
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    longer = model.chat("and now?", history, generate_config={"max_tokens": 1024})
    assert longer["choices"][0]["message"]["content"] == "and now?"
    with pytest.raises(RuntimeError, match=r"messages\[1\].role"):
        model.chat("and now?", [history[0], {"role": "robot", "content": "hi"}])


def test_a_launch_can_be_followed_and_cancelled(node: LiveNode):
    client = RESTfulClient(node.url)
    uid = client.launch_model(model_name="echo", model_uid="slow", wait_ready=False, load_seconds=30)
    assert 0 <= client.get_launch_model_progress(uid)["progress"] < 1
    (instance,) = client.get_instance_info("echo", uid)
    assert instance["status"] == "LOADING"
    client.cancel_launch_model(uid)
    assert client.list_models() == {}


def test_errors_are_in_its_words(node: LiveNode):
    client = RESTfulClient(node.url)
    with pytest.raises(RuntimeError, match="no-such-model"):
        client.launch_model(model_name="no-such-model")
    with pytest.raises(RuntimeError, match="no model 'nothing'"):
        client.describe_model("nothing")
    with pytest.raises(RuntimeError, match="n_gpu is not supported"):
        client.launch_model(model_name="echo", n_gpu=2)
    with pytest.raises(RuntimeError, match="colour"):
        client.launch_model(model_name="echo", colour="red")


def test_a_base_url_that_ends_in_a_slash_works(node: LiveNode):
    client = RESTfulClient(node.url + "/")
    uid = client.launch_model(model_name="echo")
    assert client.get_model(uid).generate("hi")["choices"][0]["text"] == "hi"


def test_registrations_are_what_can_be_launched(node: LiveNode):
    client = RESTfulClient(node.url)
    assert {"model_name": "echo", "is_builtin": True} in client.list_model_registrations("LLM")
    assert client.get_model_registration("LLM", "echo")["model_specs"][0]["model_format"] == "echo"
