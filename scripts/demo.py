"""`make demo`: a private node of its own. On a terminal the workbench, with two quantizations of the bundled model side
by side; elsewhere the model's answer to one question, streamed. The node and all it holds end with it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

XIN = [sys.executable, "-m", "xin"]
MODEL = "smollm2"
QUESTION = "What is the capital of France, and what is it known for?"
OPTIONS = ["--temperature", "0", "--max-tokens", "200"]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="xin-demo-") as folder:
        environment = {**os.environ, "XIN_HOME": str(home(Path(folder)))}
        with node(environment) as endpoint:
            if sys.stdin.isatty() and sys.stdout.isatty():
                return workbench(endpoint, environment)
            return answer(endpoint, environment)


def answer(endpoint: str, environment: dict[str, str]) -> int:
    command = ["run", MODEL, QUESTION, *OPTIONS]
    print(f"$ xin {shlex.join(command)}", flush=True)
    return subprocess.run([*XIN, *command, "-e", endpoint], env=environment, check=False).returncode


def workbench(endpoint: str, environment: dict[str, str]) -> int:
    os.environ.update(environment)
    from demo_workbench import DemoWorkbench

    return DemoWorkbench(endpoint, model=MODEL, question=QUESTION).run() or 0


def home(folder: Path) -> Path:
    """A home for once, but with the cache that stays: a compiled engine is kept there."""
    from xin import paths

    cache = paths.cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    (folder / "cache").symlink_to(cache.absolute(), target_is_directory=True)
    return folder


@contextmanager
def node(environment: dict[str, str]) -> Iterator[str]:
    """A node on a free port; yields its endpoint, and ends it and its workers."""
    log = Path(environment["XIN_HOME"]) / "demo-node.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*XIN, "node", "--port", "0", "--private"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C belongs to the workbench
        ) as child,
    ):
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                child.wait(10)
                sys.exit(f"the node did not start:\n{line}{log.read_text()}")
            print(line, end="", flush=True)
            yield found.group(0)
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


if __name__ == "__main__":
    sys.exit(main())
