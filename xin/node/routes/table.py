"""All routes of a node."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from xin.node.routes import (
    audio,
    catalogue,
    certificate,
    chat,
    completions,
    doctor,
    embeddings,
    engine_options,
    events,
    files,
    health,
    jobs,
    keys,
    logs,
    members,
    models,
    node_info,
    plan,
    recommend,
    registrations,
    relayed,
    replicas,
    rerank,
    shards,
    tokenize,
    trust,
    weights,
    xinference,
)
from xin.node.routes.browser import browser_routes


def routes() -> Iterable[web.AbstractRouteDef]:
    return [
        web.get("/health", health.health),
        # OpenAI
        web.post("/v1/chat/completions", relayed.relayed(chat.create)),
        web.post("/v1/completions", relayed.relayed(completions.create)),
        web.post("/v1/embeddings", relayed.relayed(embeddings.create)),
        web.post("/v1/audio/transcriptions", relayed.relayed(audio.transcribe)),
        web.post("/v1/audio/translations", relayed.relayed(audio.translate)),
        web.get("/v1/models", models.list_models),
        web.get("/v1/models/{uid}", models.get_model),
        # Jina, Cohere, Xinference
        web.post("/v1/rerank", relayed.relayed(rerank.create)),
        # vLLM
        web.post("/v1/tokenize", relayed.relayed(tokenize.tokenize)),
        web.post("/v1/detokenize", relayed.relayed(tokenize.detokenize)),
        # Xinference
        web.post("/v1/models", models.launch),
        web.delete("/v1/models/{uid}", replicas.terminate),
        web.post("/v1/models/{uid}/scale", replicas.scale),
        web.get("/v1/models/instances", xinference.instances),
        web.get("/v1/models/{uid}/progress", relayed.of_uid(models.progress)),
        web.post("/v1/models/{uid}/cancel", relayed.of_uid(models.cancel)),
        web.get("/v1/model_registrations/{type}", registrations.list_all),
        web.post("/v1/model_registrations/{type}", registrations.create),
        web.get("/v1/model_registrations/{type}/{name:.+}", registrations.get),
        web.delete("/v1/model_registrations/{type}/{name:.+}", registrations.delete),
        web.get("/v1/cluster/auth", xinference.auth),
        web.get("/v1/cluster/info", xinference.info),
        web.get("/v1/cluster/version", xinference.version),
        web.get("/v1/cluster/devices", xinference.devices),
        # xin's own
        web.get("/api/node", node_info.node),
        web.get("/api/proof", node_info.proof),
        web.get("/api/cluster", node_info.cluster),
        web.get("/api/instances", node_info.instances),
        web.get("/api/launches/{uid}", replicas.order),
        web.get("/api/models", node_info.models),
        web.get("/api/catalogue", catalogue.catalogue),
        web.get("/api/files", files.files),
        web.post("/api/files/remove", files.remove_files),
        web.get("/api/events", events.events),
        web.get("/api/logs/{uid}", relayed.of_uid(logs.logs)),
        web.get("/api/jobs", jobs.list_jobs),
        web.post("/api/jobs", jobs.begin),
        web.get("/api/jobs/{id}", jobs.get),
        web.get("/api/jobs/{id}/log", jobs.log),
        web.post("/api/jobs/{id}/{action}", jobs.act),
        web.post("/api/plan", plan.plan),
        web.get("/api/doctor", doctor.doctor),
        web.get("/api/recommend", recommend.recommend),
        web.get("/api/engines/{name}/options", engine_options.options),
        web.post("/api/stop", node_info.stop),
        web.get("/api/certificate", certificate.certificate),
        web.get("/api/keys", keys.list_keys),
        web.post("/api/keys", keys.add),
        web.delete("/api/keys/{id}", keys.revoke),
        web.post("/api/pairing", trust.open_pairing),
        web.delete("/api/pairing", trust.close_pairing),
        web.post("/api/pairing/join", trust.join),
        web.post("/api/trust/rotate", trust.rotate),
        web.post("/api/trust/revoke", trust.revoke),
        web.post("/api/trust/leave", trust.leave),
        web.get("/api/members", members.members),
        web.route("*", "/api/nodes/{id}/{path:.+}", relayed.through),
        # what members of a cluster tell one another
        web.post("/api/members/greet", members.greet),
        web.post("/api/members/renew", members.renew),
        web.post("/api/members/left", members.left),
        web.post("/api/members/helpers", shards.open_helper),
        web.get("/api/members/helpers/{id}/watch", shards.watch),
        web.get("/api/members/helpers/{id}/stream", shards.stream),
        web.post("/api/members/weights/held", weights.held),
        web.post("/api/members/weights/listing", weights.listing),
        web.get("/api/members/weights/{etag}", weights.content),
        # the workbench in a browser
        *browser_routes(),
    ]
