"""Loads GGUFs for real, each with some options, and prints what llama.cpp then holds: the other half of a dry run.

The questions of a dry run on stdin; a JSON list of measurements a line on stdout.
"""

from __future__ import annotations

import json
import re
import sys

import llama_cpp as lib
import msgspec

from xin.backends.llama_cpp import library
from xin.backends.llama_cpp.breakdown import breakdown
from xin.backends.llama_cpp.context import Context
from xin.backends.llama_cpp.context_params import context_params
from xin.backends.llama_cpp.dry_run_words import Question
from xin.backends.llama_cpp.embedder import Embedder
from xin.backends.llama_cpp.model import Model
from xin.backends.llama_cpp.options import Options

BUFFER = re.compile(r"(KV|RS|compute) buffer size =\s*([\d.]+) MiB")


def logged(lines: list[str]) -> dict[str, float]:
    """MiB of the real buffers."""
    total = {"KV": 0.0, "compute": 0.0}
    for line in lines:
        if found := BUFFER.search(line):
            total["KV" if found[1] == "RS" else found[1]] += float(found[2])
    return total


def measure(model: Model, options: Options) -> dict[str, float]:
    lines: list[str] = []
    library.listeners[:] = [lambda level, line: lines.append(line)]
    params = context_params(model, options, 1)
    context = Context(model.pointer, params, model.vocabulary.size, can_rewind=model.can_rewind)
    library.listeners.clear()
    places = breakdown(context.pointer) or []
    told = logged(lines)
    found = {
        "cells": context.cells,
        "kv_bytes": sum(place.context for place in places),
        "compute_bytes": sum(place.compute for place in places),
        "logged_kv_mib": told["KV"],
        "logged_compute_mib": told["compute"],
    }
    context.close()
    return found


def embedding(model: Model, window: int) -> int:
    embedder = Embedder(model, window, 1)
    places = breakdown(embedder._context.pointer) or []
    embedder.close()
    return sum(place.context + place.compute for place in places)


for line in sys.stdin.buffer:
    question = msgspec.json.decode(line, type=Question)
    tried = [msgspec.convert(options, Options) for options in question.options]
    model = Model(question.path, tried[0], lambda fraction, stage: None)
    embeds = lib.llama_model_has_encoder(model.pointer) or (model.number("pooling_type") or 0) > 0
    print(
        json.dumps(
            [
                {
                    "weights_bytes": model.size_bytes,
                    "embedder_bytes": embedding(model, options.context_length or 8192) if embeds else 0,
                    **measure(model, options),
                }
                for options in tried
            ]
        ),
        flush=True,
    )
    model.close()
