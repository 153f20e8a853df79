"""`xin launch --replica`, `xin scale`, `xin list`: on one node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_process import NodeProcess, running_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("home")) as node:
        yield node


def uids(node: NodeProcess) -> list[str]:
    return [one["model_uid"] for one in json.loads(node.xin("list", "--json").stdout)]


def test_launched_scaled_listed_and_ended(node: NodeProcess, tmp_path: Path):
    done = node.xin("launch", "echo", "--model-uid", "parrot", "--replica", "2")
    assert (done.returncode, done.stdout) == (0, "parrot\n"), done.stderr
    listed = node.xin("list").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == ["parrot", "parrot@2"]
    scaled = node.xin("scale", "parrot", "3")
    assert scaled.returncode == 0 and scaled.stdout.endswith("\n") and scaled.stdout.startswith("3 on ")
    assert uids(node) == ["parrot", "parrot@2", "parrot@3"]
    assert json.loads(node.xin("scale", "parrot", "1", "--json").stdout)["replica"] == 1
    assert node.xin("run", "parrot@3", "hi").returncode != 0
    assert node.xin("terminate", "parrot").returncode == 0
    assert uids(node) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("scale", "narwhal", "2"), 3, "narwhal"),
        (("scale", "narwhal", "0"), 2, "greater than or equal to 1"),
        (("scale", "narwhal"), 2, "N"),
        (("launch", "echo", "--replica", "65"), 2, "from 1 to 64"),
        (("launch", "echo", "--gpu", "one"), 2, "--gpu one is no list of numbers"),
        (("launch", "echo", "--gpu", "63"), 2, "gpu 63 is not on"),
    ],
)
def test_what_is_wrong_is_named(node: NodeProcess, arguments: tuple[str, ...], code: int, words: str):
    done = node.xin(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
