"""`xin jobs` against a real node, with the real quantizer."""

from __future__ import annotations

import json
from pathlib import Path

from node_process import running_node


def test_jobs_are_listed_shown_steered_and_made(tmp_path: Path):
    with running_node(tmp_path) as node:
        empty = node.xin("jobs")
        assert (empty.returncode, empty.stdout) == (0, "") and "no jobs" in empty.stderr
        node.xin("launch", "echo", "--model-uid", "a")
        [launch] = json.loads(node.xin("jobs", "list", "--json").stdout)
        assert (launch["kind"], launch["state"]) == ("launch", "done")

        made = node.xin("quantize", "smollm2", "q4_0", "F16")
        assert made.returncode == 0, made.stderr
        assert "done: xin launch smollm2:Q4_0" in made.stdout and "smollm2:F16" in made.stdout
        assert "side by side: xin chat smollm2:Q4_0 smollm2:F16 PROMPT" in made.stderr
        job_id = made.stdout.split()[0]
        shown = node.xin("jobs", "show", job_id).stdout
        assert "✓ quantize" in shown and "again: xin quantize smollm2 Q4_0" in shown
        assert "blk.29" in node.xin("jobs", "log", job_id).stdout
        assert job_id in node.xin("jobs").stdout
        again = node.xin("quantize", "smollm2", "Q4_0")
        assert again.returncode == 1 and "there already" in again.stderr
        more = node.xin("quantize", "smollm2", "Q4_0", "Q4_1", "--name", "mine")
        assert more.returncode == 2 and "--name mine" in more.stderr
        unknown = node.xin("quantize", "smollm2", "Q9")
        assert unknown.returncode == 2 and "Q4_K_M" in unknown.stderr
        rest = node.xin("quantize", "smollm2", "Q4_0", "Q5_0", "--json")
        assert rest.returncode == 0 and "there already" in rest.stderr
        assert [job["title"] for job in json.loads(rest.stdout)] == ["smollm2 Q5_0"]

        gone = node.xin("jobs", "delete", job_id)
        assert (gone.returncode, gone.stdout) == (0, f"{job_id} quantize smollm2 Q4_0: removed\n")
        assert node.xin("jobs", "show", job_id).returncode == 3
        assert node.xin("launch", "smollm2", "-q", "Q4_0").stdout == "smollm2-Q4_0\n"


def test_a_failed_job_ends_with_its_cause_and_is_tried_again(tmp_path: Path):
    with running_node(tmp_path) as node:
        node.xin("launch", "echo", "--fail-load", "cursed")
        [failed] = json.loads(node.xin("jobs", "--json").stdout)
        watched = node.xin("jobs", "watch", failed["id"])
        assert watched.returncode == 5 and "cursed" in watched.stderr
        again = node.xin("jobs", "retry", failed["id"])
        assert again.returncode == 0 and "launch echo: running" in again.stdout
        assert node.xin("jobs", "cancel").returncode == 2
        assert node.xin("jobs", "cancel", "nope").returncode == 3
