from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_process import NodeProcess, running_node

from xin.client import Client


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    home: Path = tmp_path_factory.mktemp("node")
    with running_node(home, "--name", "desk") as started:
        yield started


@pytest.fixture
def node(shared_node: NodeProcess) -> Iterator[NodeProcess]:
    """A node on which nothing runs."""
    yield shared_node
    with Client(shared_node.endpoint) as client:
        for instance in client.instances():
            client.terminate(instance.model_uid)
