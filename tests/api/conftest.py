"""Nodes that clients of other people's making talk to; one for all tests here, since they only read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_node import LiveNode
from openai import OpenAI


@pytest.fixture(scope="session")
def api_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("api-node")) as node:
        node.launch("echo", context_length=256)
        node.launch("smollm2", context_length=2048)
        yield node


@pytest.fixture(scope="session")
def openai(api_node: LiveNode) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{api_node.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client
