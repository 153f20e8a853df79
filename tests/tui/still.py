"""A workbench that stands still: the made-up fleet, a client that always says the same, a clock that does not go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from made_up_fleet import GIB, NOW, fill

from xin.protocol.node import (
    CatalogueEntry,
    CatalogueModel,
    LocalModel,
    LogLine,
    OptionSpec,
    Plan,
    PlanCell,
    PlanRow,
    Recommendations,
)
from xin.sessions.records import MessageRecord, PaneRecord, SessionRecord
from xin.sessions.store import SessionStore
from xin.tui import app as workbench_app
from xin.tui.app import Workbench
from xin.tui.settings import TuiSettings

ANSWER = """A **window function** computes a value over rows *related* to the current row.

1. written with `OVER (...)`
2. it keeps every row

```sql
SELECT name, RANK() OVER (ORDER BY salary DESC)
FROM   employees;
```

| function | keeps rows |
|---|---|
| `RANK()` | yes |
| `GROUP BY` | no |
"""
OTHER = "Window functions calculate across related rows. 窗口函数 keep each row, unlike `GROUP BY`."
QUESTION = "Explain SQL window functions in two sentences, then one example."

ROOMS = {
    "a": ("atlas", {"cuda:0": 4.1, "cuda:1": 21.1, "cpu": 97.0}),
    "b": ("hera", {"cuda:0": 41.6, "cpu": 212.0}),
}


class StillClient:
    """What the workbench asks a node for besides its events."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id

    async def close(self) -> None:
        pass

    async def local_models(self) -> list[LocalModel]:
        return [
            local("qwen3-8b", "Q8_0", 8.7, 8.2),
            local("llama-3.1-8b-instruct", "Q4_K_M", 4.9, 8.0),
            local("smollm2", "Q4_1", 0.09, 0.135),
        ]

    async def recommend(self, *, here: bool = False) -> Recommendations:
        return Recommendations(node=self._node_id)

    async def catalogue(self) -> list[CatalogueModel]:
        return [
            family("gemma-3", "Google's small models with eyes.", ["chat", "vision"], 4, 12, 27),
            family("mistral-nemo", "Mistral and NVIDIA.", ["chat"], 12.2),
        ]

    async def plan(self, model_name: str, options: dict[str, Any] | None = None, **fields: Any) -> Plan:
        return Plan(model_name=model_name, rows=[self._row("Q8_0", 8.7), self._row("Q4_K_M", 5.0)])

    def _row(self, quantization: str, gigabytes: float) -> PlanRow:
        name, rooms = ROOMS[self._node_id[0]]
        return PlanRow(
            model_name=f"qwen3-8b:{quantization}",
            quantization=quantization,
            model_format="gguf",
            model_engine="llama.cpp",
            weights_bytes=int(gigabytes * 1e9),
            downloaded=True,
            estimate=quantization == "Q8_0",
            cells=[cell(name, device, free, int(gigabytes * 1.1e9)) for device, free in rooms.items()],
        )

    async def engine_options(self, engine: str) -> list[OptionSpec]:
        return [
            OptionSpec(name="context_length", type="integer", default=4096, minimum=1, description="window in tokens"),
            OptionSpec(name="n_parallel", type="integer", default=4, minimum=1, description="answers at once"),
            OptionSpec(name="flash_attn", type="boolean", default=True, description="flash attention"),
        ]

    async def follow_logs(self, uid: str, tail: int | None = None) -> AsyncIterator[LogLine]:
        yield LogLine(NOW - 93, "info", "node", f"launching {uid}")
        yield LogLine(NOW - 83, "info", "worker", "loading tensors")
        if uid == "phi-4":
            yield LogLine(NOW - 80, "error", "worker", "ggml_backend_alloc: failed to allocate 9.1 GiB")
        else:
            yield LogLine(NOW - 80, "warning", "worker", f"{uid}: \x1b[31mcontext\x1b[0m is shorter than the model's")

    async def job_log(self, job_id: str) -> list[LogLine]:
        return [LogLine(NOW - 38, "info", "worker", "loading tensors, 62 %")]


def local(name: str, quantization: str, gigabytes: float, billions: float) -> LocalModel:
    return LocalModel(
        model_name=name,
        model_engine="llama.cpp",
        model_format="gguf",
        quantization=quantization,
        model_size_in_billions=billions,
        context_length=32768,
        size_bytes=int(gigabytes * 1e9),
        source="file",
        weights=[f"/models/{name}.gguf"],
    )


def family(name: str, description: str, abilities: list[str], *billions: float) -> CatalogueModel:
    entries = [
        CatalogueEntry(
            model_format="gguf", model_engine="llama.cpp", model_size_in_billions=size, quantizations=["Q4_K_M", "Q8_0"]
        )
        for size in billions
    ]
    return CatalogueModel(model_name=name, description=description, model_ability=abilities, entries=entries)


def cell(node: str, device: str, free_gib: float, need: int) -> PlanCell:
    free = int(free_gib * GIB)
    fits = need < free
    return PlanCell(
        node=node,
        device_id=device,
        device_name="CPU" if device == "cpu" else "a GPU",
        free_bytes=free,
        need_bytes=need,
        verdict="fits" if fits else "no",
        max_context=32768 if fits else 0,
        reason="" if fits else f"{(need - free) / GIB:.1f} GiB short",
    )


class StillWorkbench(Workbench):
    CSS_PATH = str(Path(workbench_app.__file__).with_name("app.tcss"))

    def __init__(self, tmp_path: Path, *, filled: bool = True, **given: Any) -> None:
        super().__init__(
            None, connect=False, settings=TuiSettings(), sessions=SessionStore(tmp_path / "sessions.db"), **given
        )
        if filled:
            fill(self.store)

    def client(self, node_id: str) -> Any:
        return StillClient(node_id)


def session() -> SessionRecord:
    """Three answers to one question: whole, with a thought, and broken off."""
    panes = [
        PaneRecord(0, "qwen3-8b", "a" * 16),
        PaneRecord(1, "llama-3.1-8b-instruct", "a" * 16),
        PaneRecord(2, "gemma-3-12b-混合", "b" * 16),
    ]
    messages = []
    for pane in range(3):
        messages.append(MessageRecord(id=2 * pane + 1, pane=pane, role="user", text=QUESTION, turn=1))
    figures = {"tokens_per_second": 61.4, "completion_tokens": 128, "prompt_tokens": 64, "finish_reason": "stop"}
    messages.append(answer(2, 0, "qwen3-8b", ANSWER, ttft_ms=84.0, **figures))
    thought = {"reasoning": "The user wants two sentences.", "reasoning_tokens": 41, "thinking_ms": 3100.0}
    messages.append(answer(4, 1, "llama-3.1-8b-instruct", OTHER, ttft_ms=3200.0, **thought, **figures))
    broken = {"state": "failed", "error": "the node went away", "hint": "r retry", "completion_tokens": 9}
    messages.append(answer(6, 2, "gemma-3-12b-混合", "Window functions let you compute an", ttft_ms=112.0, **broken))
    return SessionRecord(id=1, title="sql window functions", panes=panes, messages=messages, active={0: 2, 1: 4, 2: 6})


def answer(id: int, pane: int, model: str, text: str, **more: Any) -> MessageRecord:
    return MessageRecord(id=id, pane=pane, parent=id - 1, role="assistant", text=text, model=model, turn=1, **more)
