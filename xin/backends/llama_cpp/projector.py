"""Images for llama.cpp: its multimodal library (mtmd) turns them into embeddings that stand among a prompt's tokens.

In a prompt's ids each position that an image takes has a negative id made from the image itself, so that prefixes with
the same image are found again and those with another one are not.
"""

from __future__ import annotations

import ctypes
import logging
import secrets
from collections.abc import Sequence as Many
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp as lib
from llama_cpp import mtmd_cpp as mtmd

from xin.backends.llama_cpp import library
from xin.backends.llama_cpp.image_places import ImagePart, Placed, located
from xin.backends.llama_cpp.model import check_file
from xin.backends.picture import Picture, place_ids
from xin.errors import BadRequest, InternalError, LoadFailed, XinError

if TYPE_CHECKING:
    from xin.backends.llama_cpp.context import Context
    from xin.backends.llama_cpp.model import Model
    from xin.backends.llama_cpp.options import Options

NO_ROOM = 1  # llama_decode's
log = logging.getLogger("xin.llama_cpp")


class Projector:
    """An mmproj file over a loaded model. `tokenize` is called on another thread than `read`."""

    def __init__(self, path: str, model: Model, options: Options, threads: int) -> None:
        try:
            check_file(path)
        except XinError as exc:
            raise type(exc)(f"mmproj: {exc.message}", exc.hint, param="mmproj") from exc
        library.start()
        mtmd.mtmd_helper_log_set(library.callback(), None)
        self.size_bytes = Path(path).stat().st_size
        self.name = Path(path).name
        self.marker = f"<__image_{secrets.token_hex(8)}__>"  # nobody can write it into a message
        self._marker = self.marker.encode()
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = model.gpu_layers != 0
        params.print_timings = params.warmup = False
        params.n_threads = threads
        params.media_marker = self._marker
        self._pointer = mtmd.mtmd_init_from_file(path.encode(), model.pointer, params)
        if not self._pointer:
            cause = next(iter(library.last_errors()[-1:]), "llama.cpp gave no reason")
            raise LoadFailed(
                f"mmproj: {self.name} does not fit this model: {cause}"[:400], "use the model's own", param="mmproj"
            )
        if not mtmd.mtmd_support_vision(self._pointer):
            self.close()
            raise LoadFailed(f"mmproj: {self.name} takes no images", "use one for vision", param="mmproj")
        self._n_batch = options.n_batch
        self._n_ubatch = min(options.n_ubatch, options.n_batch)
        self._embedding = int(lib.llama_model_n_embd_inp(model.pointer))

    def tokenize(self, text: str, pictures: Many[Picture], add_special: bool) -> tuple[list[int], list[Placed]]:
        """The prompt's ids, and the parts of its images at their places. `text` has a marker for each picture.

        Raises BadRequest for an image that the model cannot take.
        """
        bitmaps = [self._bitmap(picture) for picture in pictures]
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            raw = text.encode()
            given = mtmd.mtmd_input_text(text=raw, text_len=len(raw), add_special=add_special, parse_special=True)
            array = (ctypes.c_void_p * len(bitmaps))(*bitmaps)
            result = mtmd.mtmd_tokenize(self._pointer, chunks, ctypes.byref(given), array, len(bitmaps))
            if result != 0:
                where = pictures[0].where if len(pictures) == 1 else "messages"  # which one, mtmd does not tell
                reason = "its chat template leaves images out" if result == 1 else "the image cannot be prepared"
                raise BadRequest(f"{where}: {reason} (mtmd_tokenize gave {result})", param=where)
            return self._placed(chunks, pictures)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)

    def read(self, context: Context, placed: Placed, slot: int) -> bool:
        """Encode it, put it into the sequence of `slot`; False when there was no room. Raises what else went wrong."""
        part = placed.part
        if mtmd.mtmd_encode_chunk(self._pointer, part.chunk) != 0:
            raise BadRequest(f"{part.where}: the image cannot be encoded", param=part.where)
        embeddings = mtmd.mtmd_get_output_embd(self._pointer)
        after = lib.llama_pos(0)
        callback = mtmd.mtmd_helper_post_decode_callback()
        result = mtmd.mtmd_helper_decode_image_chunk(
            self._pointer,
            context.pointer,
            part.chunk,
            embeddings,
            placed.start,
            slot,
            self._n_batch,
            ctypes.byref(after),
            callback,
            None,
        )
        if result == 0 and after.value != placed.end:
            raise BadRequest(f"{part.where}: the image took {after.value - placed.start} positions", param=part.where)
        if result not in (0, NO_ROOM):
            raise InternalError(f"{part.where}: llama_decode failed with code {result}", "see the instance's log")
        return bool(result == 0)

    def close(self) -> None:
        if self._pointer:
            mtmd.mtmd_free(self._pointer)
            self._pointer = None

    def _bitmap(self, picture: Picture) -> Any:
        width, height = picture.image.size
        raw = picture.image.tobytes()
        data = (ctypes.c_uint8 * len(raw)).from_buffer_copy(raw)
        bitmap = mtmd.mtmd_bitmap_init(width, height, data)
        mtmd.mtmd_bitmap_set_id(bitmap, picture.digest.hex().encode())
        return bitmap

    def _placed(self, chunks: Any, pictures: Many[Picture]) -> tuple[list[int], list[Placed]]:
        by_id = {picture.digest.hex(): picture for picture in pictures}
        tokens: list[int] = []
        parts: list[ImagePart] = []
        seen: dict[str, int] = {}  # parts of each image so far: each has ids of its own
        for number in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, number)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                count = ctypes.c_size_t()
                ids = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                tokens += ids[: count.value]
                continue
            name = (mtmd.mtmd_input_chunk_get_id(chunk) or b"").decode()
            picture = by_id[name] if name in by_id else pictures[min(len(parts), len(pictures) - 1)]
            length = int(mtmd.mtmd_input_chunk_get_n_pos(chunk))  # of what the prompt's ids count
            cells = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
            if mtmd.mtmd_decode_use_non_causal(self._pointer, chunk) and cells > self._n_ubatch:
                raise BadRequest(
                    f"{picture.where}: the image has {cells} tokens, which must be read in one pass of n_ubatch "
                    f"{self._n_ubatch}",
                    f"launch with --n-ubatch {cells} or send a smaller image",
                    param=picture.where,
                )
            which = seen[name] = seen.get(name, -1) + 1
            ids = place_ids(picture.digest[:15] + bytes([which % 256]), length)
            parts.append(
                ImagePart(ids, cells, picture.where, mtmd.mtmd_input_chunk_copy(chunk), mtmd.mtmd_input_chunk_free)
            )
            tokens += ids
        return tokens, located(tokens, parts)
