"""Whether a repository of the hub holds GGUF files or safetensors, where its name does not tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from xin.backends import require
from xin.errors import ModelNotFound, Unreachable
from xin.node.hub import Hub, is_offline
from xin.node.job_download import DownloadOrder
from xin.node.local_models import REPO
from xin.node.resolve import PYTORCH_QUANTIZATIONS, resolve
from xin.node.weights_found import GGUF, PYTORCH
from xin.protocol.node import LaunchRequest, PlanRequest

Order = TypeVar("Order", LaunchRequest, PlanRequest, DownloadOrder)
_ENDINGS = {GGUF: ".gguf", PYTORCH: ".safetensors"}


class RepoFormats:
    """Asks the hub, once for each order that needs it."""

    def __init__(self, hub: Hub, model_dirs: Sequence[str]) -> None:
        self._hub = hub
        self._model_dirs = model_dirs

    async def settled(self, order: Order) -> Order:
        """The order with the format that its repository has, when nothing else tells: GGUF where there are both.

        Raises as the hub refuses, Unreachable when it does not answer, ModelNotFound when it has neither.
        """
        repo = order.model_name.removeprefix("hf.co/")
        engine = None
        if isinstance(order, LaunchRequest):
            if order.model_path:
                return order
            engine = order.model_engine
        if order.model_format or not REPO.fullmatch(repo):
            return order
        spec = await asyncio.to_thread(resolve, order.model_name, None, None, None, None, None, self._model_dirs)
        if spec.fetch is None or spec.format != PYTORCH:
            return order
        try:
            paths = [file.path.lower() for file in (await self._hub.files(repo)).files]
        except Unreachable:
            if is_offline():  # then the download tells it
                return order
            raise
        there = [format for format, ending in _ENDINGS.items() if any(path.endswith(ending) for path in paths)]
        if not there:
            message = f"{repo} holds neither GGUF files nor safetensors"
            raise ModelNotFound(message, "choose another repository", param="model_name")
        taken = require(engine).formats if engine else frozenset(there)
        if (order.quantization or "").lower() in PYTORCH_QUANTIZATIONS:
            taken = frozenset({PYTORCH})
        fitting = [format for format in there if format in taken] or there
        return msgspec.structs.replace(order, model_format=fitting[0])
