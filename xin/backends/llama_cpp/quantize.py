"""llama.cpp's own quantizer, in a process of its own: `python -m xin.backends.llama_cpp.quantize SOURCE TARGET TYPE`.

One JSON object a line on stdout: stage, progress, log lines, then `done` or `error`. The target appears whole or not at
all; what is written until then ends in `.part`.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

TARGETS = (
    *("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0"),
    *("IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
)
PART = ".part"
_SPARE_BYTES = 256 * 2**20
_TENSOR = re.compile(r"\[\s*(\d+)/\s*(\d+)\] (\S+)")
_QUANT_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_INFO, _ERROR = 2, 4
_encode = msgspec.json.Encoder().encode


def main(source: str, target: str, quantization: str, threads: str = "0") -> int:
    """The exit code; on failure the part is removed."""
    os.nice(5)  # whoever is being answered goes first
    part = Path(target + PART)
    try:
        _say(stage="check")
        size = _Run(source, part, quantization, int(threads)).dry()
        _check_disk(part.parent, size)
        _say(stage="quantize", total_bytes=size)
        _Run(source, part, quantization, int(threads)).wet()
        _say(stage="store")
        _sync(part)
        part.replace(target)
    except (_Failed, OSError) as exc:
        part.unlink(missing_ok=True)
        error = exc if isinstance(exc, _Failed) else _Failed(f"cannot write {target}: {exc.strerror}", "check the disk")
        _say(error=error.message, hint=error.hint, code=error.code)
        return 1
    _say(done=str(Path(target).stat().st_size))
    return 0


class _Failed(Exception):
    def __init__(self, message: str, hint: str, code: str = "load_failed") -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


class _Run:
    """One call of llama_model_quantize, and what its log tells."""

    def __init__(self, source: str, target: Path, quantization: str, threads: int) -> None:
        self._source, self._target, self._type, self._threads = source, target, quantization, threads
        self._line = ""
        self._errors: list[str] = []
        self._size_bytes = 0

    def dry(self) -> int:
        """Bytes that the target will take; writes nothing."""
        self._call(dry_run=True)
        return self._size_bytes

    def wet(self) -> None:
        self._call(dry_run=False)

    def _call(self, dry_run: bool) -> None:
        import llama_cpp

        self._quiet = dry_run
        logger: Any = llama_cpp.llama_log_callback(self._heard)
        llama_cpp.llama_log_set(logger, None)
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = _ftype(self._type)
        params.nthread = self._threads
        params.allow_requantize = True  # the source may be all that there is; the job's log says what it was
        params.dry_run = dry_run
        code = llama_cpp.llama_model_quantize(self._source.encode(), str(self._target).encode(), ctypes.byref(params))
        if code != 0:
            why = "; ".join(self._errors[-2:]) or f"llama_model_quantize gave {code}"
            raise _Failed(f"llama.cpp could not quantize {Path(self._source).name}: {why}", "see the job's log")

    def _heard(self, level: int, text: bytes, user_data: Any) -> None:
        """Its log comes in pieces of lines."""
        self._line += text.decode("utf-8", "replace")
        *lines, self._line = self._line.split("\n")
        for line in lines:
            self._line_heard(level, line.strip())

    def _line_heard(self, level: int, line: str) -> None:
        if size := _QUANT_SIZE.search(line):
            self._size_bytes = int(float(size[1]) * 2**20)
        if level >= _ERROR:
            self._errors.append(line)
        if self._quiet and level < _ERROR:
            return
        if tensor := _TENSOR.match(line):
            done, total = tensor[1], tensor[2]
            _say(progress=int(done) / int(total), detail=f"tensor {done} of {total}", log=line)
        elif line and level >= _INFO:
            _say(log=line, level="error" if level >= _ERROR else "info")


def _ftype(quantization: str) -> int:
    import llama_cpp

    name = f"LLAMA_FTYPE_ALL_{quantization}" if quantization == "F32" else f"LLAMA_FTYPE_MOSTLY_{quantization}"
    return int(getattr(llama_cpp, name))


def _check_disk(folder: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if size_bytes + _SPARE_BYTES > free:
        need, there = (f"{count / 2**30:.1f} GiB" for count in (size_bytes + _SPARE_BYTES, free))
        raise _Failed(f"the disk of {folder} is too full: {need} are needed, {there} are free", "free some space there")


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _say(**word: object) -> None:
    sys.stdout.buffer.write(_encode({key: value for key, value in word.items() if value is not None}) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
