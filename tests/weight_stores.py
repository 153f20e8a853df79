"""The stores of other programs, made of one file, for tests."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

COMMIT = "0" * 39 + "1"
MODEL = "application/vnd.ollama.image.model"


def put(path: Path, weights: Path | None = None) -> Path:
    """A file that is `weights`, as a hard link where the disk allows it; without one, a GGUF of eight bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if weights is None:
        path.write_bytes(b"GGUF\x03\0\0\0")
        return path
    try:
        os.link(weights, path)
    except OSError:
        path.symlink_to(weights)
    return path


def ollama(root: Path, name: str, tag: str, weights: Path | None = None, **config: str) -> Path:
    """The blob. `name` may have a registry and a namespace before it."""
    digest = hashlib.sha256(f"{weights}".encode()).hexdigest()
    blob = root / "blobs" / f"sha256-{digest}"
    if not blob.exists():
        put(blob, weights)
    layers = [
        {"mediaType": MODEL, "digest": f"sha256:{digest}", "size": blob.stat().st_size},
        {"mediaType": "application/vnd.ollama.image.template", "digest": _small(root, b"{{ .Prompt }}"), "size": 13},
        {"mediaType": "application/vnd.ollama.image.params", "digest": _small(root, b"{}"), "size": 2},
    ]
    about = _small(root, json.dumps({"model_format": "gguf", **config}).encode())
    place = name if name.count("/") else f"registry.ollama.ai/library/{name}"
    manifest = root / "manifests" / place / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {"digest": about}, "layers": layers}))
    return blob


def hugging_face(cache: Path, repo: str, files: dict[str, Path | None], commit: str = COMMIT) -> Path:
    """The snapshot: links to blobs, as huggingface_hub writes them."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    for name, weights in files.items():
        blob = folder / "blobs" / hashlib.sha256(f"{name}{weights}".encode()).hexdigest()
        if not blob.exists():
            put(blob, weights)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(commit)
    return folder / "snapshots" / commit


def safetensors(folder: Path, architecture: str = "LlamaForCausalLM", shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    names = [f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)]
    for name in names if shards > 1 else ["model.safetensors"]:
        (folder / name).write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return folder


def _small(root: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    blob = root / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    return f"sha256:{digest}"
