"""`xin plan` on a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_process import NodeProcess, running_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("plan")) as node:
        yield node


def test_a_table_of_what_fits(node: NodeProcess):
    done = node.xin("plan", "smollm2")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split()[:3] == ["MODEL", "QUANT", "WEIGHTS"]
    [counted] = [row for row in rows if " Q4_1 " in row]
    assert counted.startswith("smollm2 ") and "92 MiB" in counted and "fits" in counted and "~" not in counted
    [estimated] = [row for row in rows if " 8-bit " in row]
    assert "~" in estimated and "estimate" in done.stderr


def test_options_count_and_json_has_all_figures(node: NodeProcess):
    def row(*options: str) -> dict[str, object]:
        done = node.xin("plan", "smollm2", "-q", "Q4_1", "--json", *options)
        assert done.returncode == 0, done.stderr
        [found] = json.loads(done.stdout)["rows"]
        return found

    plain, small = row(), row("--context-length", "1024", "--n-parallel", "1", "--cache-type-k", "q8_0")
    assert plain["estimate"] is False and plain["context_length"] == 8192
    assert small["context_length"] == 1024 and small["kv_bytes"] < plain["kv_bytes"]
    refused = node.xin("plan", "smollm2", "--context-lenght", "1024")
    assert refused.returncode == 2 and "context_length" in refused.stderr


def test_a_launch_that_cannot_fit_is_refused_with_an_offer(node: NodeProcess):
    done = node.xin("launch", "smollm2", "--context-length", "16000000")
    assert done.returncode == 5
    assert "short by" in done.stderr and "--context-length" in done.stderr
    [listed] = json.loads(node.xin("list", "--json").stdout)
    assert (listed["state"], listed["worker"]["pid"]) == ("failed", None)
    assert "there is no model" in node.xin("plan", "no-such-model").stderr


def test_a_text_file_is_refused(node: NodeProcess, tmp_path: Path):
    file = tmp_path / "text.gguf"
    file.write_text("not a model")
    done = node.xin("plan", str(file))
    assert done.returncode != 0 and "a text file" in done.stderr


def test_what_is_recommended_can_be_launched_by_its_command(node: NodeProcess):
    done = node.xin("recommend", "-c", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["models"]
    assert len(found) == 2
    table = node.xin("recommend", "--count", "2")
    header, *rows = table.stdout.splitlines()
    assert header.split()[0] == "MODEL" and len(rows) == 2
    assert all(f"xin launch {row.split()[0]} --context-length" in row for row in rows)
    for model in found:
        words = model["command"].split()
        planned = node.xin("plan", *words[2:], "-q", model["quantization"], "--json")
        assert planned.returncode == 0, planned.stderr
        [planned_row] = json.loads(planned.stdout)["rows"]
        assert planned_row["context_length"] == model["context_length"]
    nothing = node.xin("recommend", "--ability", "telepathy")
    assert nothing.returncode == 0 and not nothing.stdout and "nothing" in nothing.stderr
    assert node.xin("recommend", "--count", "0").returncode == 2
