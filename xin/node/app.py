"""The composition root of a node, and its life: start, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

from aiohttp import web

from xin import paths
from xin.config import Config, NodeConfig
from xin.discovery import own_addresses
from xin.errors import EXIT_FAILURE, XinError
from xin.node import runtime_file
from xin.node.admission import Admission
from xin.node.app_door import AppDoor
from xin.node.bandwidth import BandwidthProbe
from xin.node.browser.visitors import Visitors
from xin.node.devices.probe import Prober, Source
from xin.node.devices.sampler import Sampler
from xin.node.errors_middleware import add_headers, errors_to_bodies
from xin.node.events import EventHub
from xin.node.guard import MergedSlashes, make_guard
from xin.node.identity import Identity, identify
from xin.node.job_book import JobBook
from xin.node.job_launches import LaunchJobs
from xin.node.jobs import Jobs
from xin.node.key_book import ALL_SCOPES, KeyBook
from xin.node.keys import (
    APP_DOOR,
    BODY_LIMIT,
    CLUSTER,
    CONFIG,
    DESCRIPTION,
    EVENTS,
    FORCE,
    FORMATS,
    HELPERS,
    IDENTITY,
    JOBS,
    KEY_BOOK,
    LAN_DOOR,
    MANAGER,
    MEMBER_WEIGHTS,
    PAIRING,
    PEERS,
    PLACEMENT,
    PLANNER,
    RECOMMENDER,
    RELAY,
    ROUTER,
    SAMPLER,
    SPREAD,
    STOP,
    TRUST,
    VISITORS,
)
from xin.node.listener import for_own_programs, open_listener
from xin.node.manager import Manager
from xin.node.node_info import SelfDescription
from xin.node.peers import Peers
from xin.node.placement import Placement
from xin.node.plan import Place, Planner
from xin.node.plan_headers import RemoteHeaders
from xin.node.recommend import Recommender
from xin.node.relay import Relay
from xin.node.replicas_routing import Router
from xin.node.replicas_spread import Spread
from xin.node.repo_formats import RepoFormats
from xin.node.routes.table import routes
from xin.node.shards.gathering import Gathering
from xin.node.shards.helpers import Helpers
from xin.node.trust.cluster import ClusterActs
from xin.node.trust.lan_door import LanDoor
from xin.node.trust.pairing import PairingDoor
from xin.node.trust.trust import Trust
from xin.node.weights_members import MemberWeights
from xin.node.weights_supply import Supply
from xin.protocol.local_key import local_key
from xin.protocol.node import Event
from xin.protocol.trust import OpenDoor

BODY_BYTES = 64 * 2**20
CLEANUP_SECONDS = 2.0
AppFactory = Callable[[Config, Identity], web.Application]
log = logging.getLogger("xin.node")


def make_app(
    config: Config, identity: Identity | None = None, *, sources: Callable[[Manager], list[Source]] | None = None
) -> web.Application:
    """A node without its socket. Lifetimes are cleanup contexts, in order: devices, jobs and manager, peers.

    `sources`: what to ask for devices instead of this machine's drivers.
    """
    node = config.node
    identity = identity or identify(node)
    keys = KeyBook(paths.data_dir() / "keys.json")
    trust = Trust(identity, paths.data_dir() / "cluster", partial(_addresses, node))
    door = AppDoor(node, identity, paths.data_dir() / "tls")
    admission = Admission(node, keys, trust.is_member, door.is_by)
    guard = make_guard(node.host, node.allowed_hosts, admit=admission.admit, answers_to=door.answers_to)
    app = web.Application(middlewares=[errors_to_bodies, guard], client_max_size=BODY_BYTES)
    app[BODY_LIMIT] = BODY_BYTES
    app[KEY_BOOK] = keys
    app[APP_DOOR] = door
    _open_doors(app, node, identity, trust)
    app[CONFIG] = node
    app[IDENTITY] = identity
    app[STOP] = asyncio.Event()
    app[FORCE] = asyncio.Event()
    events = app[EVENTS] = EventHub()
    app[PEERS] = Peers(node, identity, events, trust=None if node.private else trust)
    app[MEMBER_WEIGHTS] = MemberWeights(app[PEERS])
    supply = Supply(app[MEMBER_WEIGHTS])
    book = JobBook(node.port, events)
    launches = LaunchJobs(book, events)
    manager = app[MANAGER] = Manager(node, node_id=identity.id, node_name=identity.name, events=launches)
    sampler = app[SAMPLER] = Sampler(events, manager.workers, prober=Prober(sources(manager)) if sources else None)
    app[DESCRIPTION] = SelfDescription(node, identity, sampler, manager)
    manager.devices = sampler.current
    planner = app[PLANNER] = Planner(node.model_dirs, partial(_place, app))
    planner.headers = RemoteHeaders(supply, paths.cache_dir() / "headers")
    manager.check = planner.check_launch
    probe = BandwidthProbe(paths.cache_dir() / "bandwidth.json")
    app[RECOMMENDER] = Recommender(partial(_place, app), manager.known_models, probe)
    formats = app[FORMATS] = RepoFormats(supply, node.model_dirs)
    manager.settle = formats.settled
    changed = partial(_engines_changed, app)
    jobs = app[JOBS] = Jobs(node, identity.name, book, launches, manager, supply, formats, changed)
    manager.fetch = jobs.fetch
    app[RELAY] = Relay(app[PEERS])
    app[HELPERS] = Helpers(identity.name, lambda: manager.threads, partial(_place, app))
    gathering = Gathering((identity.id, identity.name), app[RELAY], planner.runs.sizes, partial(_place, app))
    manager.gather, planner.together = gathering.gather, gathering.offer
    app[PLACEMENT] = Placement((identity.id, identity.name), manager, app[RELAY], planner.plan)
    app[ROUTER] = Router()
    app[SPREAD] = Spread(identity.name, manager, app[RELAY], app[PLACEMENT])
    app[VISITORS] = Visitors()
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.extend([_sampling, _managing, _trusting, _peering, _relaying])
    app.on_shutdown.extend([_drain, _close_helpers, _close_visits])
    app.add_routes(routes())
    app.router.register_resource(MergedSlashes(app.router))
    return app


def _open_doors(app: web.Application, node: NodeConfig, identity: Identity, trust: Trust) -> None:
    """What others than this machine's programs get in by; none of it is open yet."""
    if node.api_key:
        app[KEY_BOOK].give(node.api_key, ALL_SCOPES)
    if identity.keyed:
        app[KEY_BOOK].give(local_key(identity.nonce), ALL_SCOPES)
    app[TRUST] = trust
    app[LAN_DOOR] = LanDoor(identity, trust, node.lan_host, node.lan_port)
    app[PAIRING] = PairingDoor(trust, node.lan_host, node.pair_port, partial(_addresses, node))
    app[CLUSTER] = ClusterActs(trust, app[LAN_DOOR], app[PAIRING])


def _addresses(node: NodeConfig) -> list[str]:
    return [node.lan_host] if node.lan_host else own_addresses()


async def _engines_changed(app: web.Application) -> None:
    await app[DESCRIPTION].engines_changed()
    app[EVENTS].publish(Event(type="node", at=time.time(), node=await app[DESCRIPTION].current()))


async def _place(app: web.Application) -> Place:
    node = await app[DESCRIPTION].current()
    return Place(node.name, node.devices)


async def _sampling(app: web.Application) -> AsyncIterator[None]:
    async with app[SAMPLER]:
        yield


async def _managing(app: web.Application) -> AsyncIterator[None]:
    await app[JOBS].start()
    await app[MANAGER].start()
    yield  # _drain ends it, while its answers can still be sent


async def _trusting(app: web.Application) -> AsyncIterator[None]:
    if not app[CONFIG].private:
        await app[TRUST].load()
    yield
    await app[APP_DOOR].close()
    await app[PAIRING].close()
    await app[LAN_DOOR].close()


async def _peering(app: web.Application) -> AsyncIterator[None]:
    async with app[PEERS], app[MEMBER_WEIGHTS]:
        yield


async def _relaying(app: web.Application) -> AsyncIterator[None]:
    async with app[RELAY]:
        yield


def run(config: Config, make: AppFactory = make_app) -> int:
    """`serve` on the fastest event loop there is. Blocking."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        pass
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(serve(config, make))


async def serve(config: Config, make: AppFactory = make_app) -> int:
    """The `xin node` main; returns the exit code. Narrates on stderr; the line on stdout says that it is ready."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        listener = await open_listener(for_own_programs(config.node))
        identity = await asyncio.to_thread(identify, config.node)
        identity.port = listener.getsockname()[1]
        app = await asyncio.to_thread(make, config, identity)  # it reads the host's files
    except XinError as exc:
        return _failed(exc)
    _allow_many_connections()
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=CLEANUP_SECONDS)
    signals = _Signals(app[STOP], app[FORCE])
    await runner.setup()
    try:
        site = web.SockSite(runner, listener)
        await asyncio.to_thread(runtime_file.write, identity)
        await site.start()
        await _open_to_others(app, runner)
        await app[PEERS].announce()
        gc.freeze()  # what is loaded stays: no collection between two tokens need look at it
        print(f"xin node {identity.name} ready on {identity.endpoint}", flush=True)
        await app[STOP].wait()
    except XinError as exc:
        return _failed(exc)
    finally:
        await asyncio.to_thread(runtime_file.remove, identity)
        await runner.cleanup()
        signals.close()
    _say("stopped")
    return 1 if app[FORCE].is_set() else 0


async def _open_to_others(app: web.Application, runner: web.AppRunner) -> None:
    """The doors beyond loopback, as far as this node has any. A first API key is made and shown, this once."""
    if not app[CONFIG].private:
        await app[LAN_DOOR].serve_on(runner)
    app[APP_DOOR].serve_on(runner)
    if (node := app[CONFIG]).uses_tls:
        info = await app[APP_DOOR].open(OpenDoor(host=node.host, tls=True, allowed_hosts=node.allowed_hosts))
        where = ", ".join(info.addresses) or "no address yet"
        _say(f"other hosts reach this node over TLS: {where}, port {info.port}")
    if app[IDENTITY].keyed and app[CONFIG].api_key is None and not app[KEY_BOOK].keys():
        made = await app[KEY_BOOK].add("first", ALL_SCOPES)
        _say(f"requests need an API key; this one may do everything and is not shown again: {made.key}")


async def _drain(app: web.Application) -> None:
    """Between the last new connection and the end of the others: let running requests end, then end the workers."""
    seconds = app[CONFIG].drain_seconds
    running = sum(instance.stats.running for instance in app[MANAGER].instances())
    if running:
        _say(f"stopping: {running} requests are running; waiting up to {seconds:g} s (Ctrl-C again ends them)")
    await app[JOBS].stop()
    drained = asyncio.create_task(app[MANAGER].stop(seconds), name="drain")
    forced = asyncio.create_task(app[FORCE].wait(), name="force")
    await asyncio.wait({drained, forced}, return_when=asyncio.FIRST_COMPLETED)
    forced.cancel()
    if not drained.done():
        _say("stopping at once")
        drained.cancel()
        await app[MANAGER].stop(0.0)
    await asyncio.gather(drained, forced, return_exceptions=True)
    await app[PLANNER].close()
    app[EVENTS].close()


async def _close_helpers(app: web.Application) -> None:
    await app[HELPERS].close()


async def _close_visits(app: web.Application) -> None:
    """The browsers' workbenches end last: their answers may have been among those waited for."""
    await app[VISITORS].close()


class _Signals:
    """The first SIGTERM or SIGINT asks for a stop, the second forces it."""

    def __init__(self, stop: asyncio.Event, force: asyncio.Event) -> None:
        self.stop = stop
        self.force = force
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)

    def close(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        (self.force if self.stop.is_set() else self.stop).set()


def _allow_many_connections() -> None:
    """Each stream is a descriptor, and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _failed(exc: XinError) -> int:
    _say(f"{exc.message}: {exc.hint}" if exc.hint else exc.message)
    return EXIT_FAILURE


def _say(text: str) -> None:
    print(f"xin: {text}", file=sys.stderr, flush=True)
