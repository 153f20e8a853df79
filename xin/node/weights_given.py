"""What this node gives to members of its cluster: files of the hub, by their hash. Reads the disk: call it in a thread.

Of what a member sends only a whole hash and a revision's plain name become paths; a repository's is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xin.node import gguf_file, safetensors_folder
from xin.node.hub import ETAG
from xin.node.weights_found import size_of, walk
from xin.node.weights_huggingface import COMMIT, blobs_folders, cached_repo, cached_repos
from xin.node.weights_ollama import blob_of_sha256
from xin.protocol.weights import MOST_FILES, HeldFile, HeldRepo


def sizes(etags: Sequence[str]) -> dict[str, int]:
    """Bytes of those that lie here whole."""
    found = ((etag, file_of(etag)) for etag in etags)
    return {etag: size_of(path) for etag, path in found if path is not None}


def file_of(etag: str) -> Path | None:
    """In the Hugging Face cache; a sha256 in Ollama's store too."""
    if not ETAG.fullmatch(etag):
        return None
    for folder in blobs_folders():
        if _is_file(path := folder / etag):
            return path
    return blob_of_sha256(etag)


def listing(repo: str, revision: str) -> HeldRepo:
    """What can be loaded of a commit, or of a branch or tag that was fetched by its name."""
    name = next((known for known, _ in cached_repos() if known == repo), None)
    snapshot = cached_repo(name, revision) if name else None
    if snapshot is None or not COMMIT.fullmatch(snapshot.name) or not _is_named(snapshot, revision):
        return HeldRepo()
    blobs = (snapshot.parents[1] / "blobs").resolve()
    has_all_shards = safetensors_folder.is_complete(snapshot)
    files = []
    for path in walk(snapshot):
        blob = path.resolve()
        is_whole = has_all_shards if path.suffix == ".safetensors" else all(map(_is_file, gguf_file.parts(path)))
        if is_whole and ETAG.fullmatch(blob.name) and blob.parent == blobs:
            files.append(HeldFile(path=path.relative_to(snapshot).as_posix(), size=size_of(path), etag=blob.name))
    return HeldRepo(commit=snapshot.name, files=files[:MOST_FILES])


def _is_named(snapshot: Path, revision: str) -> bool:
    """A download gives its commit the branch's name when all of it is there."""
    return revision == snapshot.name or _is_file(snapshot.parents[1] / "refs" / revision)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
