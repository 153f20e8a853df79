"""The Python snippet of the README, word for word but for the endpoint and the model's name."""

from __future__ import annotations

from typing import Any

import pytest
from node_process import NodeProcess

SNIPPET = """
from xin.client import Client

client = Client("{endpoint}")
model_uid = client.launch_model(model_name="{model}")
model = client.get_model(model_uid)

chat_history = []
prompt = "What is the largest animal?"
completion = model.chat(
            prompt,
            chat_history,
            generate_config={{"max_tokens": 1024}}
        )
"""


@pytest.mark.timeout(600)  # the real model may use all of its 1024 tokens
@pytest.mark.parametrize("model", ["echo", "smollm2"])
def test_the_snippet_runs_and_counts_its_tokens(node: NodeProcess, model: str) -> None:
    names: dict[str, Any] = {}
    exec(SNIPPET.format(endpoint=node.endpoint, model=model), names)

    completion = names["completion"]
    assert completion["object"] == "chat.completion"
    assert completion["model"] == names["model_uid"]
    choice = completion["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] in ("stop", "length")
    usage = completion["usage"]
    assert usage["prompt_tokens"] > 3
    assert 0 < usage["completion_tokens"] <= 1024
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert names["chat_history"] == [], "the caller's history stays as it was"
    names["client"].terminate_model(names["model_uid"])
    names["client"].close()
