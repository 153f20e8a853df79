"""The Chat over several nodes when one is killed, and esc while a real model still reads a long prompt."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from live_node import LiveNode
from textual.pilot import Pilot
from waiting import screen as shown
from waiting import until

from xin.tui.app import Workbench
from xin.tui.screens.chat import ChatScreen
from xin.tui.store import NodeView, Target

WORDS = " ".join(f"w{n}" for n in range(80))


def made(home: Path, name: str, port: int = 0) -> LiveNode:
    """A node that the others of this host follow."""
    node = LiveNode(home / name, name=name, port=port, private=False)
    node.environ["XIN_REGISTRY"] = str(home / "registry")
    return node


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def chatting(url: str, *uids: str) -> AsyncIterator[tuple[Workbench, ChatScreen, Pilot[None]]]:
    app = Workbench(url)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(lambda: {target.uid for target in app.store.targets()} >= set(uids))
        node_of = {target.uid: target.node_id for target in app.store.targets()}
        app.open_chat([Target(node_of[uid], uid) for uid in uids])
        await until(lambda: isinstance(app.screen, ChatScreen) and len(app.screen.panes) == len(uids))
        assert isinstance(app.screen, ChatScreen)
        yield app, app.screen, pilot


async def test_a_node_killed_in_mid_stream_leaves_its_words_and_the_other_nodes_pane_goes_on(tmp_path: Path):
    port = free_port()  # what a node brings back at its start is kept by its port
    with made(tmp_path, "atlas") as atlas, made(tmp_path, "beta", port) as beta:
        atlas.launch(model_uid="steady", tokens_per_second=20)
        beta.launch(model_uid="doomed", tokens_per_second=20)
        async with chatting(atlas.url, "steady", "doomed") as (app, screen, pilot):
            screen.send(WORDS)
            await until(lambda: all("w9" in (talk.answer.text if talk.answer else "") for talk in screen.talks))
            steady, doomed = (talk.answer for talk in screen.talks)
            assert steady is not None and doomed is not None
            beta.process.kill()
            await until(lambda: doomed.state == "failed", 5)
            assert WORDS.startswith(doomed.text.strip()) and "w9" in doomed.text and steady.state == "streaming"
            await until(lambda: "failed after" in shown(app) and "ctrl+g retry" in shown(app))

            def beta_now() -> NodeView:
                return next(one for one in app.store.nodes.values() if one.name == "beta")

            await until(lambda: beta_now().status == "gone", 5)
            await until(lambda: not screen.talks[0].streaming)
            assert (steady.state, steady.text) == ("done", WORDS)
            with made(tmp_path, "beta", port):
                await until(lambda: beta_now().status == "alive", 10, "the node")
                await until(lambda: "doomed" in beta_now().instances, 10, "its model")
                await until(lambda: screen.panes[1].instance and screen.panes[1].instance.state == "ready", 10, "pane")
                await pilot.press("alt+a", "alt+right", "ctrl+g")
                await until(lambda: len(screen.talks[1].conversation) == 3)


@pytest.mark.slow
async def test_esc_while_a_real_model_reads_the_prompt_frees_its_slot(tmp_path: Path):
    with LiveNode(tmp_path / "node") as node:
        node.launch("smollm2", model_uid="real", n_parallel=1, context_length=8192)

        def ask(text: str = "Hi") -> float:
            began = time.monotonic()
            body = {"model": "real", "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
            assert node.http.post("/v1/chat/completions", json=body).status_code == 200
            return time.monotonic() - began

        part = await asyncio.to_thread(ask, "a " * 500)
        alone = min([await asyncio.to_thread(ask) for _ in range(3)])
        async with chatting(node.url, "real") as (_, screen, pilot):
            screen.send("word " * 7000)
            await until(lambda: screen.talks[0].streaming)
            await asyncio.sleep(0.4)
            answer = screen.talks[0].answer
            assert answer is not None and answer.text == "" and screen.talks[0].streaming
            await pilot.press("escape")
            freed = await asyncio.to_thread(ask) - alone
            print(f"the only slot was free {freed:.3f} s after esc; 500 of its words take {part:.1f} s")
            assert answer.state == "stopped" and freed < 4 * part  # the rest of the prompt takes longer
            screen.send("Say hello.")
            await until(lambda: not screen.talks[0].streaming and len(screen.talks[0].conversation) == 4, 30)
            assert answer.text == ""
