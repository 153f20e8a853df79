from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from node_process import NodeProcess
from terminal import Terminal

from xin.client import Client


def test_run_launches_streams_and_tells_its_figures(node: NodeProcess) -> None:
    done = node.xin("run", "echo", "blue", "whale")
    assert (done.returncode, done.stdout) == (0, "blue whale\n"), done.stderr
    assert "echo ready in" in done.stderr
    assert "TTFT" in done.stderr
    again = node.xin("run", "echo", "blue whale")
    assert "ready in" not in again.stderr


def test_run_reads_a_pipe_and_takes_a_uid(node: NodeProcess) -> None:
    node.xin("launch", "echo", "-u", "mine")
    assert node.xin("run", "mine", stdin="from the pipe\n").stdout == "from the pipe\n"
    assert node.xin("run", "mine", "look:", stdin="from the pipe\n").stdout == "look:\n\nfrom the pipe\n"
    with Client(node.endpoint) as client:
        assert [instance.model_uid for instance in client.instances()] == ["mine"]


def test_run_as_json(node: NodeProcess) -> None:
    answer = json.loads(node.xin("run", "echo", "one two three", "--max-tokens", "2", "--json").stdout)
    assert answer["answer"] == "one two"
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["ttft_ms"] > 0


def test_a_field_that_is_wrong(node: NodeProcess) -> None:
    done = node.xin("run", "echo", "hi", "--temperature", "9")
    assert done.returncode == 2
    assert "temperature" in done.stderr


def test_ctrl_c_stops_the_answer(node: NodeProcess) -> None:
    node.xin("launch", "echo", "--tokens-per-second", "5")
    with Terminal("run", "echo", "word " * 200, environ=node.environ) as terminal:
        terminal.read_until("word word")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    assert "Traceback" not in terminal.output
    with Client(node.endpoint) as client:
        deadline = time.monotonic() + 5
        while client.instances()[0].stats.running and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.instances()[0].stats.running == 0


def test_a_conversation_on_a_terminal(node: NodeProcess) -> None:
    node.xin("launch", "echo", "-u", "slow", "--tokens-per-second", "5")
    with Terminal("run", "slow", environ=node.environ) as terminal:
        terminal.read_until(">>> ")
        terminal.type("hello there\n")
        terminal.read_until("TTFT")
        terminal.read_until(">>> ")
        terminal.type('"""first\n')
        terminal.read_until("... ")
        terminal.type('second"""\n')
        assert "first\r\nsecond" in terminal.read_until("TTFT").replace("\n\r\n", "\n")
        terminal.read_until(">>> ")
        terminal.type("word " * 100 + "\n")
        terminal.read_until("word word")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until(">>> ")
        terminal.type("/clear\n")
        terminal.read_until(">>> ")
        terminal.type("/bye\n")
        assert terminal.finish() == 0


def test_control_characters_of_a_model_do_not_reach_the_terminal(node: NodeProcess) -> None:
    with Terminal("run", "echo", "red \x1b[31malert\x07 end", environ=node.environ) as terminal:
        assert terminal.finish() == 0
    assert "\x1b[31m" not in terminal.output
    assert "red [31malert end" in terminal.output


def test_the_real_model(node: NodeProcess, smollm2: Path) -> None:
    question = "What is the capital of France, and what is it known for?"
    done = node.xin("run", str(smollm2), question, "-t", "0", "--max-tokens", "20", timeout=110)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
