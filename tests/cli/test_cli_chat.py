from __future__ import annotations

import json
import signal

from node_process import NodeProcess
from terminal import Terminal

QUESTION = "What is the largest animal of all that live in the sea and on the land of this planet?"


def launch(node: NodeProcess, uid: str, *options: str) -> None:
    done = node.xin("launch", "echo", "-u", uid, *options)
    assert done.returncode == 0, done.stderr


def test_two_answers_stream_side_by_side(node: NodeProcess) -> None:
    launch(node, "A", "--tokens-per-second", "20")
    launch(node, "B", "--tokens-per-second", "10")
    with Terminal("chat", "A", "B", QUESTION, environ=node.environ) as terminal:
        assert terminal.finish() == 0
    frames = [frame.splitlines() for frame in terminal.output.split("\x1b[1mA")[1:]]
    bodies = [[line for line in frame[2:] if "What" in line or line.count("  ") > 4] for frame in frames]
    both_part_way = [body for body in bodies if body and body[0].count("What") == 2 and len(body) < 3]
    assert both_part_way, "some frame shows both answers unfinished on one line"
    last = "\n".join(frames[-1])
    assert last.count("TTFT") == 2
    assert last.count("tokens/s") == 2
    assert last.count("What is the largest animal") == 2
    assert last.count("planet?") == 2


def test_the_end_of_a_long_answer_stays_in_view(node: NodeProcess) -> None:
    launch(node, "A", "--tokens-per-second", "300")
    launch(node, "B", "--tokens-per-second", "300")
    words = " ".join(f"word{n}" for n in range(300))
    with Terminal("chat", "A", "B", words, environ=node.environ) as terminal:
        assert terminal.finish() == 0
    frames = terminal.output.split("\x1b[1mA")[1:]
    assert max(frame.count("\n") for frame in frames[:-1]) <= 24
    assert frames[-1].count("word0 ") == 2, "when it has ended all of it is there"
    assert frames[-1].count("word299") == 2


def test_away_from_a_terminal_they_come_labelled(node: NodeProcess) -> None:
    launch(node, "A")
    launch(node, "B")
    done = node.xin("chat", "A", "B", "blue", "whale")
    assert (done.returncode, done.stdout) == (0, "== A ==\nblue whale\n\n== B ==\nblue whale\n\n")
    assert "A: TTFT" in done.stderr
    assert node.xin("chat", "A", "-p", "A B", stdin="piped").stdout == "== A ==\nA B\n\npiped\n\n"
    answers = json.loads(node.xin("chat", "A", "B", "blue whale", "--json").stdout)
    assert [(answer["model"], answer["answer"]) for answer in answers] == [("A", "blue whale"), ("B", "blue whale")]


def test_one_that_fails_leaves_the_other_going(node: NodeProcess) -> None:
    launch(node, "A", "--die-after", "2")
    launch(node, "B")
    done = node.xin("chat", "A", "B", "one two three four")
    assert done.returncode == 5
    assert "== B ==\none two three four\n" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_model_that_does_not_run_is_launched(node: NodeProcess) -> None:
    assert node.xin("chat", "echo", "whale").stdout == "== echo ==\nwhale\n\n"


def test_ctrl_c_leaves_what_has_come(node: NodeProcess) -> None:
    launch(node, "A", "--tokens-per-second", "5")
    with Terminal("chat", "A", "word " * 100, environ=node.environ) as terminal:
        terminal.read_until("word word")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    assert "Traceback" not in terminal.output
    assert "word" in terminal.output.split("\x1b[1mA")[-1]


def test_a_conversation_with_two(node: NodeProcess) -> None:
    launch(node, "A")
    launch(node, "B")
    with Terminal("chat", "A", "B", environ=node.environ) as terminal:
        terminal.read_until(">>> ")
        terminal.type("hello\n")
        terminal.read_until(">>> ")
        assert terminal.output.count("hello") >= 3
        terminal.type("/bye\n")
        assert terminal.finish() == 0
