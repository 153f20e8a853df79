"""One Struct tree of settings: defaults < config.toml < XIN_* variables < flags. Unknown keys are refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from xin import paths
from xin.errors import UsageError

DEFAULT_PORT = 9997
LAN_PORT = 9996
PAIR_PORT = 9995

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(ge=0)]


class NodeConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`[node]`: one daemon.

    host            address to listen on; beyond loopback every request needs an API key
    port            0 = any free one
    api_key         a key that may do everything, besides those of `xin keys`; set, it is asked for on loopback too
    tls             other hosts reach `host` over TLS only, by a certificate that the node makes for itself
    tls_cert        a certificate (PEM, with its chain) in place of the own one; tls_key is its key
    allowed_hosts   names by which apps and proxies address the node, besides its own
    lan_port        where paired nodes meet over mutual TLS; 0 = any free one
    pair_port       where a newcomer knocks while pairing is open; 0 = any free one
    lan_host        address of those two doors; empty = all
    name            shown to others; default: the host name
    private         neither announce nor look for other nodes
    peers           nodes to follow besides those found by themselves: http://127.0.0.1:PORT; HOST:PORT of a member
    threads         CPU threads for all models together; 0 = the cores this process may use
    keep_alive      seconds an on-demand model stays after its last request; negative = for ever
    drain_seconds   how long a stop waits for running requests
    model_dirs      folders searched for .gguf files, besides the bundled model
    engine          engine for on-demand launches; empty = by format
    fetch_images    fetch images that requests name by URL, from public addresses
    max_waiting     requests that may wait for one model before 503
    """

    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    api_key: Annotated[str, Meta(min_length=1)] | None = None
    tls: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    allowed_hosts: list[str] = []
    lan_port: Port = LAN_PORT
    lan_host: str = ""
    pair_port: Port = PAIR_PORT
    name: str = ""
    private: bool = False
    peers: list[str] = []
    threads: Annotated[int, Meta(ge=0, le=4096)] = 0
    keep_alive: float = 300.0
    drain_seconds: Seconds = 30.0
    model_dirs: list[str] = []
    engine: str = ""
    fetch_images: bool = False
    max_waiting: Annotated[int, Meta(ge=1)] = 512

    @property
    def uses_tls(self) -> bool:
        return self.tls or bool(self.tls_cert or self.tls_key)


class ClientConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`[client]`: whom the command line and the TUI talk to.

    ca   a PEM file with the authority of https endpoints; empty = the well-known ones
    """

    endpoint: str = f"http://127.0.0.1:{DEFAULT_PORT}"
    start_node: bool = True
    ca: str = ""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    node: NodeConfig = msgspec.field(default_factory=NodeConfig)
    client: ClientConfig = msgspec.field(default_factory=ClientConfig)


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Merge the layers; `flags`: {"node": {...}}, None where nothing was given. Raises UsageError naming the key."""
    environ = os.environ if environ is None else environ
    file = file or paths.config_file()
    tree: dict[str, dict[str, Any]] = _read(file)
    _merge(tree, _from_environ(environ))
    _merge(tree, flags or {})
    try:
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as exc:
        raise UsageError(f"configuration: {exc}", f"see {file}, the XIN_* variables and the flags") from exc


def _read(file: Path) -> dict[str, dict[str, Any]]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{file} is not valid TOML: {exc}", "mend the line it names") from exc


def _from_environ(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """XIN_NODE_PORT=1 sets node.port; XIN_ENDPOINT is client.endpoint. Lists are comma separated."""
    tree: dict[str, dict[str, Any]] = {}
    for section, struct in (("node", NodeConfig), ("client", ClientConfig)):
        for field in msgspec.structs.fields(struct):
            value = environ.get(f"XIN_{section}_{field.name}".upper())
            if value is not None:
                is_list = field.type == list[str]
                tree.setdefault(section, {})[field.name] = value.split(",") if is_list else value
    if "XIN_ENDPOINT" in environ:
        tree.setdefault("client", {})["endpoint"] = environ["XIN_ENDPOINT"]
    return tree


def _merge(tree: dict[str, dict[str, Any]], layer: Mapping[str, Mapping[str, Any]]) -> None:
    for section, values in layer.items():
        if not isinstance(values, Mapping):
            raise UsageError(f"configuration: {section} is not a section", f"write it as [{section}]")
        tree.setdefault(section, {}).update({k: v for k, v in values.items() if v is not None})
