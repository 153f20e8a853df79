"""A node's own wire types: launches, instances, devices, nodes, jobs, events. Sizes in bytes, times in unix seconds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

State = Literal["downloading", "loading", "ready", "stopping", "failed"]
StageState = Literal["waiting", "running", "done", "failed", "skipped"]
JobKind = Literal["launch", "install", "quantize", "download"]
JobState = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]
JobAction = Literal["pause", "resume", "cancel", "delete", "retry"]
Verdict = Literal["fits", "partial", "no", "no_engine"]
UID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
UID_HINT = "use letters, digits, dot, dash and underscore; at most 128, the first a letter or digit"
RESERVED_UIDS = frozenset({"instances", "families", "prompts", "recommend", "vllm-supported", "LLM"})


class LaunchRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/models. Takes the Xinference client's keys; any other key is an engine option."""

    model_name: str
    model_uid: str | None = None
    model_type: str | None = None
    model_engine: str | None = None
    model_size_in_billions: int | float | str | None = None
    model_format: str | None = None
    quantization: str | None = None
    model_path: str | None = None
    replica: int = 1  # workers of this uid, spread over the nodes unless one is named
    gpu: list[int] | None = None  # numbers of the accelerators that it may use; None: all
    keep_alive: float | str | None = None
    node: str | None = None  # a name or id of one in the cluster; None: the best one
    force: bool = False  # also when it does not fit
    pin: bool = False  # never ended to make room for another
    shard: list[str] = []  # names or ids of nodes that hold it together
    placed: str = ""  # why on this node, in words: the node that chose it says so
    options: dict[str, Any] = {}


class LaunchReply(msgspec.Struct):
    """`node` has it, by name and id; `reason`: why there, in words, where there was a choice."""

    model_uid: str
    node: str = ""
    node_id: str = ""
    reason: str = ""


class WorkerInfo(msgspec.Struct):
    """One replica's process. `rss_bytes` is its resident memory; `gpu_bytes` by device id."""

    pid: int | None = None
    rss_bytes: int = 0
    gpu_bytes: dict[str, int] = {}
    threads: int = 0
    restarts: int = 0


class InstanceStats(msgspec.Struct):
    running: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0
    kv_used: int = 0
    kv_total: int = 0
    ttft_ms: float | None = None
    requests_total: int = 0
    tokens_total: int = 0


class ShardPart(msgspec.Struct):
    """What one node holds of a model that is divided over several; `need_bytes` as planned."""

    node: str
    node_id: str
    layers: int
    need_bytes: int = 0


class Instance(msgspec.Struct, kw_only=True):
    """One launch of a model on one node, in whatever state."""

    model_uid: str
    model_name: str
    model_engine: str
    model_format: str
    quantization: str
    model_size_in_billions: float | None = None
    model_ability: list[str] = []
    model_lang: list[str] = []
    state: State
    progress: float = 0.0
    stage: str = ""
    cause: str | None = None
    hint: str | None = None
    context_length: int = 0
    n_parallel: int = 1
    options: dict[str, Any] = {}
    sampling: dict[str, float | int] = {}  # what its makers advise where a request leaves it unset
    weights: list[str] = []
    node: str = ""
    serves: str = ""  # of a further replica: the uid that it answers to; its own is UID@2, UID@3, …
    replica: int = 1  # of the first: how many there are on its node
    gpu: list[int] | None = None
    explicit: bool = True
    pinned: bool = False
    keep_alive: float | None = None
    launched_at: float = 0.0
    ready_at: float | None = None
    last_used_at: float | None = None
    load_seconds: float | None = None
    memory_bytes: dict[str, int] = {}
    notes: list[str] = []
    shards: list[ShardPart] = []
    placed: str = ""  # why on this node, in words, where there was a choice
    worker: WorkerInfo = msgspec.field(default_factory=WorkerInfo)
    stats: InstanceStats = msgspec.field(default_factory=InstanceStats)

    @property
    def served_uid(self) -> str:
        """What requests name: all replicas share it."""
        return self.serves or self.model_uid


class ScaleRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/models/{uid}/scale."""

    replica: int


class ScaleReply(msgspec.Struct, kw_only=True):
    """`nodes`: how many each has, by name. `leaving`: replicas that answer what they were asked, and end then."""

    model_uid: str
    replica: int
    nodes: dict[str, int] = {}
    leaving: int = 0


class Device(msgspec.Struct, kw_only=True):
    """One accelerator, or the host's CPU with its RAM. Fields that the driver does not tell are None.

    `kind`: cuda, rocm, metal, cpu. Utilisation in percent, temperature in Celsius, power in watts.
    `unified`: this accelerator's memory is the host's RAM (Apple). `bf16`: the CPU has instructions for it.
    """

    id: str
    kind: str
    name: str
    total_bytes: int
    free_bytes: int | None = None
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    driver: str | None = None
    compute_capability: str | None = None
    parent: str | None = None
    unified: bool = False
    cores: float | None = None
    bf16: bool | None = None
    note: str | None = None
    process_bytes: dict[int, int] = {}


class EngineInfo(msgspec.Struct):
    """An engine as `xin engines` tells it; `missing` lists packages that are not installed."""

    name: str
    formats: list[str]
    installed: bool
    version: str | None = None
    missing: list[str] = []
    details: dict[str, Any] = {}


class NodeInfo(msgspec.Struct, kw_only=True):
    """GET /api/node."""

    id: str
    name: str
    version: str
    endpoint: str
    pid: int
    started_at: float
    platform: str = ""
    cpu_threads: int = 1
    devices: list[Device] = []
    engines: list[EngineInfo] = []
    private: bool = False
    lan_port: int | None = None


class Peer(msgspec.Struct, kw_only=True):
    """Another node as this one sees it. `relation`: self, local (same host and user), found (not paired), peer.

    `status`: alive, slow, gone. Only nodes that are trusted (self, local) carry node and instances.
    """

    id: str
    name: str
    relation: str
    status: str
    version: str = ""
    endpoint: str | None = None
    addresses: list[str] = []
    lan_port: int | None = None
    seen_at: float = 0.0
    node: NodeInfo | None = None
    instances: list[Instance] = []


class Cluster(msgspec.Struct):
    """GET /api/cluster: this node first."""

    nodes: list[Peer]


class JobStage(msgspec.Struct, kw_only=True):
    """One step of a job; `progress` from 0 to 1 where it can be told."""

    name: str
    state: StageState = "waiting"
    detail: str = ""
    progress: float | None = None
    started_at: float | None = None
    ended_at: float | None = None


class JobFile(msgspec.Struct, kw_only=True):
    name: str
    total_bytes: int = 0
    done_bytes: int = 0
    state: str = "waiting"
    etag: str = ""  # of a download: the hub's hash of it
    source: str = ""  # of a download: the member that gives it, or gave the last of it; "": the hub


class Job(msgspec.Struct, kw_only=True):
    """Work that the node does by itself, whoever watches. `actions` are those that can be asked for now.

    `command` is the equal line for a shell. `progress` from 0 to 1, of the whole job.
    """

    id: str
    kind: JobKind
    title: str
    node: str = ""
    model_uid: str | None = None
    state: JobState
    progress: float = 0.0
    detail: str = ""
    stages: list[JobStage] = []
    files: list[JobFile] = []
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    cause: str | None = None
    hint: str | None = None
    actions: list[JobAction] = []
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    command: str = ""


class PlanRequest(msgspec.Struct, kw_only=True):
    """Body of POST /api/plan: the fields of a launch that say which model, and options of the engine.

    Without a quantization all of the size that a launch would take are rows.
    """

    model_name: str
    model_size_in_billions: int | float | str | None = None
    model_format: str | None = None
    quantization: str | None = None
    options: dict[str, Any] = {}


class PlanCell(msgspec.Struct, kw_only=True):
    """One quantization on one device. `max_context` in tokens, 0 = unknown; `reason` says why it does not fit.

    `need_bytes` is all that it would take there. `n_gpu_layers`: how many of its layers fit this accelerator.
    """

    node: str
    device_id: str
    device_name: str
    free_bytes: int
    need_bytes: int
    verdict: Verdict
    max_context: int = 0
    n_gpu_layers: int | None = None
    reason: str = ""


class PlanRow(msgspec.Struct, kw_only=True):
    """One quantization; `model_name` is what a launch of it takes.

    estimate       by formulas; else counted by llama.cpp itself on the file's header
    context_length the window that the bytes are for · trained_context: the longest; both 0 = not known
    kv_bytes       of all caches, recurrent states too · overhead_bytes: of the process around them, in RAM
    error          why the file cannot be loaded
    published      what others told of it, and when
    """

    model_name: str = ""
    quantization: str
    model_format: str
    model_engine: str
    weights_bytes: int
    downloaded: bool
    model_size_in_billions: float | None = None
    estimate: bool = True
    context_length: int = 0
    trained_context: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    overhead_bytes: int = 0
    layers: int = 0
    architecture: str = ""
    error: str | None = None
    published: str = ""
    cells: list[PlanCell] = []


class Plan(msgspec.Struct, kw_only=True):
    """What of a model would fit where, largest weights first. `estimate`: at least one row is one."""

    model_name: str
    estimate: bool = True
    rows: list[PlanRow] = []


class Recommendation(msgspec.Struct, kw_only=True):
    """A model that this node runs well. `model_name` is what a launch takes.

    fetch_bytes        what must be downloaded first · need_bytes: all that it takes on the device
    tokens_per_second  of one stream, expected; None = the device's bandwidth was not measured
    lacking            why it cannot be launched at once; empty when it can
    node, score        where it would run, and how it compares with others: more is better
    """

    model_name: str
    node: str = ""
    score: float = 0.0
    description: str = ""
    quantization: str
    model_format: str
    model_engine: str
    model_size_in_billions: float | None = None
    context_length: int
    weights_bytes: int
    fetch_bytes: int
    need_bytes: int
    device_id: str
    device_name: str
    tokens_per_second: float | None = None
    lacking: str = ""
    command: str = ""


class Recommendations(msgspec.Struct, kw_only=True):
    """GET /api/recommend, the best of all nodes first.

    `bytes_per_second`: what a copy in RAM reaches on the node that was asked; None = not measured.
    """

    node: str
    bytes_per_second: float | None = None
    models: list[Recommendation] = []


class OptionSpec(msgspec.Struct, kw_only=True):
    """One launch option of an engine. `type`: integer, number, boolean, string, choice, list."""

    name: str
    type: str
    default: Any = None
    choices: list[str] = []
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of GET /api/events. `type` says which field is set.

    snapshot: node, instances, jobs (first event of each stream) · instance · instance_removed: model_uid · samples:
    devices, workers (only with ?samples=1) · job · job_removed: job_id · node (its engines have changed) · peer ·
    peer_removed: peer_id · stopping (this node drains).
    """

    type: str
    at: float
    node: NodeInfo | None = None
    instances: list[Instance] | None = None
    instance: Instance | None = None
    model_uid: str | None = None
    devices: list[Device] | None = None
    workers: dict[str, WorkerInfo] | None = None
    peer: Peer | None = None
    peers: list[Peer] | None = None
    peer_id: str | None = None
    job: Job | None = None
    jobs: list[Job] | None = None
    job_id: str | None = None


class LogLine(msgspec.Struct):
    """A line of GET /api/logs/{uid}: the worker's stderr and the node's notes on it."""

    at: float
    level: str
    source: str
    message: str


class LocalModel(msgspec.Struct, kw_only=True):
    """GET /api/models: a model that this node can launch now, without fetching anything.

    `source`: built-in, bundled, made here, file, huggingface, lmstudio, llama.cpp, ollama, xinference. `model_name` is
    what a launch takes.
    """

    model_name: str
    model_engine: str
    model_format: str
    quantization: str
    model_size_in_billions: float | None = None
    model_ability: list[str] = []
    model_lang: list[str] = []
    context_length: int = 0
    description: str = ""
    source: str = "file"
    weights: list[str] = []
    size_bytes: int = 0


class CatalogueEntry(msgspec.Struct, kw_only=True):
    """One size and format of a family, from one place, in its quantizations.

    source         built-in, bundled, file, huggingface …; `unverified`: nobody has looked whether the repository has it
    remote_code    its repository brings Python code without which the weights are of no use
    here           quantizations that are on this machine
    weights_bytes  in memory, by quantization: of the files where they are here, else an estimate; 0 = not known
    kv_bytes       keys and values of one token in f16; 0 = not known
    """

    model_format: str
    model_engine: str
    model_size_in_billions: float | None = None
    quantizations: list[str] = []
    source: str = "huggingface"
    repo: str = ""
    revision: str = ""
    files: list[str] = []
    unverified: bool = False
    remote_code: bool = False
    here: list[str] = []
    weights_bytes: dict[str, int] = {}
    kv_bytes: int = 0


class CatalogueModel(msgspec.Struct, kw_only=True):
    """GET /api/catalogue: a family, or what is on this machine beside them.

    origin         built-in, registered, or found (on this machine, of no family)
    prompt_style   for files without a chat template of their own; None: the file's own template
    notes          what a person should know before taking it
    """

    model_name: str
    description: str = ""
    model_lang: list[str] = []
    model_ability: list[str] = []
    context_length: int = 0
    origin: str = "built-in"
    prompt_style: dict[str, Any] | None = None
    chat_sibling: str | None = None
    sampling: dict[str, float | int] = {}
    notes: list[str] = []
    entries: list[CatalogueEntry] = []


class WeightFile(msgspec.Struct, kw_only=True):
    """GET /api/files: a weight file, once however many `paths` lead to it.

    model_names   what can be launched of it · used_by: uids of running models that have it open
    """

    path: str
    size_bytes: int
    sources: list[str] = []
    paths: list[str] = []
    model_names: list[str] = []
    used_by: list[str] = []


class WeightFiles(msgspec.Struct, kw_only=True):
    """`total_bytes`: what they take together, each counted once."""

    total_bytes: int
    files: list[WeightFile] = []


class RemoveFiles(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /api/files/remove. `name`: of a model, or the path of a weight file.

    foreign   also files of other programs' stores, and of the folders that the configuration names
    dry_run   say what would be done, and do nothing
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    foreign: bool = False
    dry_run: bool = False


class KeptFile(msgspec.Struct):
    path: str
    reason: str


class FilesRemoved(msgspec.Struct, kw_only=True):
    """What is removed, or with `dry_run` would be; what stays, and why; bytes that the disk has more."""

    name: str
    removed: list[str] = []
    kept: list[KeptFile] = []
    freed_bytes: int = 0
    dry_run: bool = False


encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Event).decode
