"""Control tokens show where a request asks for them, as marks around tool calls, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_causal import write

from xin.backends.base import Request, Weights
from xin.worker.calls import calls_of
from xin.worker.frames import Sampling, Tools

MARK = "<|im_start|>"


def load(engine: str, path: Path) -> Any:
    if engine == "llama.cpp":
        from xin.backends.llama_cpp.engine import LlamaCppEngine as Engine
    else:
        from xin.backends.transformers.engine import TransformersEngine as Engine  # type: ignore[assignment]
    options = Engine.Options(context_length=256, n_parallel=1)
    return Engine.load(Weights([str(path)], "test"), options, lambda fraction, stage: None)


@pytest.fixture(params=["llama.cpp", pytest.param("transformers", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest, smollm2: Path, tmp_path: Path) -> Any:
    loaded = load(request.param, smollm2 if request.param == "llama.cpp" else write(tmp_path / "tiny"))
    yield loaded
    loaded.close()


def said(engine: Any, **fields: Any) -> bytes:
    (mark,) = engine.tokenize(MARK, False, True)
    sampling = Sampling(temperature=0.0, logit_bias={mark: 100.0})
    engine.submit(Request(1, engine.tokenize("Hi", True, False), sampling, 2, **fields))
    pieces = b""
    while engine.busy():
        pieces += b"".join(output.piece for output in engine.step())
    return pieces


def test_a_control_token_shows_where_it_is_asked_for(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(calls_of.__globals__["MARKS"], "hermes", (MARK, "no such mark"))
    calls = calls_of(engine, Tools([{"type": "function", "function": {"name": "f"}}]))
    assert said(engine) == b""
    assert said(engine, shown=calls.shown) == MARK.encode() * 2
