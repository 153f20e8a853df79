"""Routes that another node answers: those whose model runs there, and all under /api/nodes/{id}."""

from __future__ import annotations

import asyncio
from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from xin.errors import BadRequest, ModelNotFound, Unreachable, WorkerDied, XinError
from xin.node.errors_middleware import RETRIED
from xin.node.keys import IDENTITY, MANAGER, RELAY, ROUTER
from xin.node.relay import ELSEWHERE, HOPS, RETURN_SECONDS
from xin.node.replicas_routing import Candidate, Prompt, model_of, prompt_of
from xin.node.routes.form import FORM, read_form
from xin.protocol.node import Peer

TRIES = 5
LOCAL_TRIES = 3  # a request that ends every worker it meets must not end them all
LOOK_SECONDS = 0.1
AGAIN_SECONDS = 1.0  # one that could not answer is asked again, where no other is left


def relayed(handler: Handler) -> Handler:
    """`handler` answers what is to be answered here, what runs nowhere, and what another node has passed on already.

    It is called again where its replica was lost before the first token and another one is ready.
    """

    @wraps(handler)
    async def here(request: web.Request) -> web.StreamResponse:
        for _ in range(LOCAL_TRIES - 1):
            try:
                return await handler(request)
            except WorkerDied:
                if not _is_ready_here(request, await _model_asked(request, await request.read())):
                    raise
                _count_lost(request)
        return await handler(request)

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        if HOPS in request.headers or not request.app[RELAY].trusted():
            return await here(request)
        body = await request.read()
        return await _Asked(request, here, body, await _model_asked(request, body)).answer()

    return answer


def _is_ready_here(request: web.Request, model: str) -> bool:
    """Is a replica of this node ready that may answer for `model`?"""
    manager = request.app[MANAGER]
    try:
        served = manager.get(model).served_uid
    except ModelNotFound:
        return False
    return any(one.served_uid == served and one.state == "ready" for one in manager.instances())


def _count_lost(request: web.Request) -> None:
    request[RETRIED] = request.get(RETRIED, 0) + 1


class _Asked:
    """One request, and where it may go. The one that was chosen last is in `_tried` when it could not answer."""

    def __init__(self, request: web.Request, handler: Handler, body: bytes, model: str) -> None:
        self._request = request
        self._handler = handler
        self._body = body
        self._model = model
        self._relay = request.app[RELAY]
        self._router = request.app[ROUTER]
        self._home = request.app[IDENTITY].id
        self._tried: set[str] = set()
        self._lost = False

    async def answer(self) -> web.StreamResponse:
        """By the best, then by the next best; in the moment when none is there, by one that comes back."""
        failure: XinError | None = None
        for _ in range(TRIES):
            places = await self._places()
            if not places:
                break
            try:
                return await self._by(places, is_last=len(places) == 1 and not self._hopes())
            except ELSEWHERE as exc:
                failure = exc
                _count_lost(self._request)
                self._lost = self._lost or isinstance(exc, Unreachable)
        if failure is not None:
            raise failure
        return await self._handler(self._request)

    async def _by(self, places: dict[str, tuple[Peer | None, Candidate]], *, is_last: bool) -> web.StreamResponse:
        prompt = prompt_of(self._body) if len(places) > 1 else Prompt(self._model)
        chosen = self._router.order([candidate for _, candidate in places.values()], prompt)[0].key
        peer = places[chosen][0]
        self._tried.add(chosen)
        with self._router.routed(chosen, prompt):
            if peer is None:
                return await self._handler(self._request)
            return await self._relay.answer(self._request, peer, is_last=is_last)

    async def _places(self) -> dict[str, tuple[Peer | None, Candidate]]:
        """Who has not been tried; when nobody is left, those that come within a few seconds."""
        for look in range(round(RETURN_SECONDS / LOOK_SECONDS)):
            places = self._candidates()
            self._tried &= places.keys()  # one that was lost and is back is another one
            if look * LOOK_SECONDS >= AGAIN_SECONDS:
                self._tried.clear()
            if untried := {key: place for key, place in places.items() if key not in self._tried}:
                return untried
            if not self._hopes():
                return {}
            await asyncio.sleep(LOOK_SECONDS)
        return {}

    def _hopes(self) -> bool:
        """Was a node lost that may soon be back?"""
        return self._lost or self._relay.may_return(self._model)

    def _candidates(self) -> dict[str, tuple[Peer | None, Candidate]]:
        """By node; this one first, since it saves a hop."""
        found: dict[str, tuple[Peer | None, Candidate]] = {}
        if self._runs_here():
            served = self._request.app[MANAGER].get(self._model).served_uid
            group = [one for one in self._request.app[MANAGER].instances() if one.served_uid == served]
            ready = [one for one in group if one.state == "ready"]
            running = sum(one.stats.running + one.stats.waiting for one in group)
            found[self._home] = None, Candidate(self._home, bool(ready), running, len(ready))
        for target in self._relay.targets(self._model):
            peer, stats, known = target.peer, target.instance.stats, found.get(target.peer.id)
            is_ready = target.instance.state == "ready" and peer.status == "alive"
            before = known[1] if known else Candidate(peer.id, False, 0, 0)
            running = before.running + stats.running + stats.waiting
            found[peer.id] = peer, Candidate(peer.id, before.ready or is_ready, running, before.workers + is_ready)
        return found

    def _runs_here(self) -> bool:
        try:
            return bool(self._model) and self._request.app[MANAGER].get(self._model).state != "failed"
        except ModelNotFound:
            return False


async def _model_asked(request: web.Request, body: bytes) -> str:
    """The model that the body names; "" when it names none: the handler will say so."""
    if request.content_type != FORM:
        return model_of(body)
    try:
        named = (await read_form(request)).fields.get("model", "")
    except BadRequest:
        return ""
    return named if isinstance(named, str) else ""


async def through(request: web.Request) -> web.StreamResponse:
    """`/api/nodes/ID/v1/models` is `/v1/models` of that node: every route of it, for who may manage this one."""
    node_id = request.match_info["id"]
    if HOPS in request.headers:
        raise BadRequest("this request has passed through a node already", "ask the node itself")
    path = request.rel_url.raw_path_qs.partition(f"/api/nodes/{node_id}")[2]
    return await request.app[RELAY].through(request, node_id, path)


def of_uid(handler: Handler) -> Handler:
    """`handler` acts on the instance of this node that the path names; one that runs elsewhere is acted on there."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        uid, relay = request.match_info["uid"], request.app[RELAY]
        if HOPS not in request.headers and all(one.model_uid != uid for one in request.app[MANAGER].instances()):
            for target in relay.remote():
                if target.instance.model_uid == uid:
                    return await relay.through(request, target.peer.id, request.rel_url.raw_path_qs)
        return await handler(request)

    return answer
