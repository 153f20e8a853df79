"""POST /v1/rerank on the echo engine, whose score is the share of the query's words that a document has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live_node import LiveNode

DOCUMENTS = ["a dog barks", "the cat sat", {"text": "the dog and the cat"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("rerank")) as node:
        node.launch("echo")
        yield node


def rerank(node: LiveNode, **fields: Any) -> dict[str, Any]:
    body = {"model": "echo", "query": "the dog", "documents": DOCUMENTS, **fields}
    reply = node.http.post("/v1/rerank", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_best_come_first_and_name_their_place(node: LiveNode):
    told = rerank(node)
    assert [(one["index"], one["relevance_score"]) for one in told["results"]] == [(2, 1.0), (0, 0.5), (1, 0.5)]
    assert all(one["document"] is None for one in told["results"])
    assert told["usage"]["prompt_tokens"] == 3 * len("the dog") + 11 + 11 + 19


def test_only_so_many_with_their_texts_and_counts(node: LiveNode):
    told = rerank(node, top_n=1, return_documents=True, return_len=True, kwargs="{}", max_chunks_per_doc=None)
    assert [one["document"] for one in told["results"]] == [{"text": "the dog and the cat"}]
    assert told["meta"]["tokens"]["input_tokens"] == told["usage"]["total_tokens"]
