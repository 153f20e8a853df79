from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from node_process import NodeProcess, running_node

from xin.client import AsyncClient, Client


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    home: Path = tmp_path_factory.mktemp("node")
    with running_node(home) as started:
        yield started


@pytest.fixture
def client(node: NodeProcess) -> Iterator[Client]:
    with Client(node.endpoint) as made:
        yield made
        for instance in made.instances():
            made.terminate(instance.model_uid)


@pytest.fixture
async def aclient(client: Client) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(client.endpoint) as made:
        yield made
