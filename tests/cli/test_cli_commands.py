from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from node_process import XIN, NodeProcess
from terminal import Terminal
from typer.testing import CliRunner

from xin.cli.main import app
from xin.client import Client


def test_a_life_of_a_model(node: NodeProcess) -> None:
    launched = node.xin("launch", "echo", "-u", "one", "--context-length", "512", "--n-parallel", "3")
    assert (launched.returncode, launched.stdout) == (0, "one\n"), launched.stderr
    assert "one ready in" in launched.stderr
    again = node.xin("launch", "echo", "-u", "one", "--option", "context-length=512", "--n-parallel=3")
    assert again.stdout == "one\n"

    listed = node.xin("list").stdout.splitlines()
    assert listed[0].split() == ["UID", "NAME", "SIZE", "FORMAT", "QUANT", "STATE", "MEMORY", "REQUESTS"]
    assert listed[1].split()[:2] == ["one", "echo"]
    assert "ready" in listed[1]
    (instance,) = json.loads(node.xin("list", "--json").stdout)
    assert instance["options"] == {"context_length": 512, "n_parallel": 3}
    assert instance["explicit"] is True

    shown = node.xin("show", "one").stdout
    assert "context length  512" in shown
    about = json.loads(node.xin("show", "echo", "--json").stdout)
    assert about["instances"][0]["model_uid"] == "one"
    assert about["models"][0]["model_name"] == "echo"

    assert "ready" in node.xin("logs", "one", "-n", "50").stdout
    lines = [json.loads(line) for line in node.xin("logs", "one", "--json").stdout.splitlines()]
    assert lines[-1]["message"]

    ended = node.xin("terminate", "one", "two")
    assert (ended.returncode, ended.stdout) == (3, "one\n")
    assert "two" in ended.stderr
    assert node.xin("list", "--json").stdout.strip() == "[]"


def test_the_options_of_2023(node: NodeProcess) -> None:
    launched = node.xin("launch", "-n", "echo", "-f", "echo", "-q", "none", "--model-uid", "seed", "-e", node.endpoint)
    assert (launched.returncode, launched.stdout) == (0, "seed\n"), launched.stderr
    ended = node.xin("terminate", "--model-uid", "seed", "--json")
    assert json.loads(ended.stdout) == {"terminated": ["seed"]}
    done = node.xin("launch", "--model-name", "smollm2", "--size-in-billions", "7")
    assert done.returncode == 2
    assert "7" in done.stderr


def test_list_all_fits_80_columns(node: NodeProcess) -> None:
    with Terminal("list", "--all", environ=node.environ) as terminal:
        assert terminal.finish() == 0
    assert "smollm2" in terminal.output
    assert "135M" in terminal.output
    lines = re.sub(r"\x1b\[\d+m", "", terminal.output).splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (["launch", "narwhal"], 3, "narwhal"),
        (["launch", "/nowhere/x.gguf"], 3, "/nowhere/x.gguf"),
        (["launch", "org/repo"], 3, "org/repo"),
        (["launch", "echo", "--zork", "1"], 2, "zork"),
        (["launch", "echo", "--engine", "warp"], 2, "warp"),
        (["launch", "echo", "--fail-load", "bad weights"], 5, "bad weights"),
        (["launch", "echo", "--oom"], 5, "memory"),
        (["launch", "echo", "--node", "mars"], 2, "mars"),
        (["launch"], 2, "MODEL"),
        (["launch", "a", "b"], 2, "a b"),
        (["terminate"], 2, "UID"),
        (["terminate", "narwhal"], 3, "narwhal"),
        (["show", "narwhal"], 3, "narwhal"),
        (["logs", "narwhal"], 3, "narwhal"),
        (["bench", "narwhal"], 3, "narwhal"),
        (["run", "narwhal", "hi"], 3, "narwhal"),
        (["run", "echo"], 2, "prompt"),
        (["chat", "narwhal", "hi"], 3, "narwhal"),
        (["chat", "echo", "narwhal", "-p", "hi"], 3, "narwhal"),
        (["list", "-e", "ftp://x"], 2, "ftp://x"),
        (["node", "--host", "0.0.0.0", "--api-key", ""], 2, "api_key"),
    ],
)
def test_failures_are_a_cause_a_hint_and_a_code(node: NodeProcess, arguments: list[str], code: int, cause: str) -> None:
    done = CliRunner().invoke(app, arguments, env=node.environ)
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if " ready in " not in line]
    assert len(said) == 2, done.stderr
    assert said[0].startswith("xin: ")
    assert cause in said[0]


def test_launch_without_waiting(node: NodeProcess) -> None:
    launched = node.xin("launch", "echo", "--no-wait", "--load-seconds", "20", "--json")
    told = json.loads(launched.stdout)
    assert (told["model_uid"], told["reason"]) == ("echo", "") and told["node"]
    assert "loading" in node.xin("list").stdout


def test_a_bar_on_a_terminal_and_ctrl_c_cancels_the_launch(node: NodeProcess) -> None:
    with Terminal("launch", "echo", "--load-seconds", "20", environ=node.environ) as terminal:
        terminal.read_until("10%")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    assert "launch of echo cancelled" in terminal.output
    assert "Traceback" not in terminal.output
    assert node.xin("list", "--json").stdout.strip() == "[]"


def test_bench(node: NodeProcess) -> None:
    node.xin("launch", "echo", "--tokens-per-second", "400")
    figures = json.loads(node.xin("bench", "echo", "--streams", "3", "--tokens", "12", "--json").stdout)
    assert figures["streams"] == 3
    assert figures["completion_tokens"] > 10
    assert figures["ttft_max_ms"] >= figures["ttft_p50_ms"] > 0
    assert figures["gap_p95_ms"] >= figures["gap_p50_ms"] > 0
    assert "tokens/s" in node.xin("bench", "echo", "--tokens", "12").stdout


def test_nodes(node: NodeProcess) -> None:
    node.xin("launch", "echo")
    (first, *_) = json.loads(node.xin("nodes", "--json").stdout)
    assert (first["name"], first["relation"], first["status"]) == ("desk", "self", "alive")
    row = node.xin("nodes").stdout.splitlines()[1]
    assert row.startswith("desk  this one")
    assert node.endpoint in row


def test_nodes_watch_shows_changes(node: NodeProcess) -> None:
    watching = subprocess.Popen(
        [*XIN, "nodes", "--watch", "--json"], env=node.environ, stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout
    assert json.loads(watching.stdout.readline())[0]["name"] == "desk"
    node.xin("launch", "echo")
    states = json.loads(watching.stdout.readline())[0]["instances"]
    assert [instance["model_uid"] for instance in states] == ["echo"]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=10)
    assert watching.returncode == 130


def test_logs_follow(node: NodeProcess) -> None:
    node.xin("launch", "echo")
    following = subprocess.Popen([*XIN, "logs", "echo", "-f"], env=node.environ, stdout=subprocess.PIPE, text=True)
    assert following.stdout
    assert "node" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=10)
    assert following.returncode == 130


def test_a_pipe_that_closes_early(node: NodeProcess) -> None:
    command = f"{' '.join(XIN)} list --all --json | head -c 1"
    done = subprocess.run(command, shell=True, env=node.environ, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""


def test_pull_says_what_is_here(node: NodeProcess) -> None:
    assert "smollm2 is here already" in node.xin("pull", "smollm2").stderr


def test_the_shell_completes_uids(node: NodeProcess) -> None:
    node.xin("launch", "echo", "-u", "mine")
    done = node.xin(_XIN_COMPLETE="complete_bash", COMP_WORDS="xin terminate m", COMP_CWORD="2")
    assert done.stdout.split() == ["mine"]


def test_the_shell_completes_the_catalogue(node: NodeProcess) -> None:
    completing = {"_XIN_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    done = node.xin(COMP_WORDS="xin pull qwen", **completing)
    assert {"qwen-chat", "qwen2.5"} <= set(done.stdout.split())
    away = node.xin(COMP_WORDS="xin launch smoll", XIN_ENDPOINT="http://127.0.0.1:9", **completing)
    assert "smollm2" in away.stdout.split()


def test_launch_by_path(node: NodeProcess, smollm2: Path, tmp_path: Path) -> None:
    (tmp_path / smollm2.name).symlink_to(smollm2)
    command = [*XIN, "launch", smollm2.name, "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=node.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights"] == [str(tmp_path / smollm2.name)]


def test_what_run_loads_is_not_launched_for_good(node: NodeProcess) -> None:
    node.xin("run", "echo", "hello")
    with Client(node.endpoint) as client:
        (instance,) = client.instances()
        assert (instance.explicit, instance.keep_alive) == (False, 300.0)
