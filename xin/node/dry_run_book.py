"""Answers of dry runs that stay over restarts of the node: a launch does not count again what was counted once."""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from xin import __version__, paths
from xin.backends.llama_cpp.dry_run_words import ModelSize
from xin.installer.status import backends

MOST = 500
FORM = 2  # of what is kept: one more whenever ModelSize tells more
_LARGEST = 32 << 20
log = logging.getLogger(__name__)


class DryRunBook:
    """One file of answers by file, its time, options and build. Blocking; a file that cannot be read is an empty book.

    Only for builds without accelerators: with them an answer depends on the devices of the moment.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._answers: dict[str, ModelSize] | None = None
        self._build = ""

    def find(self, key: tuple[object, ...]) -> ModelSize | None:
        return self._known().get(self._name(key))

    def keep(self, key: tuple[object, ...], size: ModelSize) -> None:
        """Refusals are not kept: the next look at a file is a new one."""
        known = self._known()
        if size.error is not None or not self._build:
            return
        known[self._name(key)] = size
        for name in list(known)[:-MOST]:
            del known[name]
        try:
            paths.write_whole(self._file, msgspec.json.encode(known))
        except OSError as exc:
            log.warning("%s cannot be written: %s", self._file, exc.strerror)

    def _known(self) -> dict[str, ModelSize]:
        if self._answers is None:
            self._build = _build()
            self._answers = _read(self._file) if self._build else {}
        return self._answers

    def _name(self, key: tuple[object, ...]) -> str:
        return hashlib.sha256(repr((self._build, key)).encode()).hexdigest()


def _build() -> str:
    """What the answers depend on besides the file; empty when they cannot be kept."""
    try:
        llama = version("llama_cpp_python")
    except PackageNotFoundError:
        return ""
    return f"{FORM} {__version__} {llama}" if not set(backends()) - {"cpu", "rpc"} else ""


def _read(file: Path) -> dict[str, ModelSize]:
    try:
        data = file.read_bytes() if file.stat().st_size < _LARGEST else b"{}"
        return msgspec.json.decode(data, type=dict[str, ModelSize])
    except (OSError, msgspec.DecodeError):
        return {}
