"""What the composition root gives to the routes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from xin.config import NodeConfig
from xin.node.events import EventHub
from xin.node.identity import Identity

if TYPE_CHECKING:
    from xin.node.app_door import AppDoor
    from xin.node.browser.visitors import Visitors
    from xin.node.devices.sampler import Sampler
    from xin.node.jobs import Jobs
    from xin.node.key_book import KeyBook
    from xin.node.manager import Manager
    from xin.node.node_info import SelfDescription
    from xin.node.peers import Peers
    from xin.node.placement import Placement
    from xin.node.plan import Planner
    from xin.node.recommend import Recommender
    from xin.node.relay import Relay
    from xin.node.replicas_routing import Router
    from xin.node.replicas_spread import Spread
    from xin.node.repo_formats import RepoFormats
    from xin.node.shards.helpers import Helpers
    from xin.node.trust.cluster import ClusterActs
    from xin.node.trust.lan_door import LanDoor
    from xin.node.trust.pairing import PairingDoor
    from xin.node.trust.trust import Trust
    from xin.node.weights_members import MemberWeights

CONFIG: web.AppKey[NodeConfig] = web.AppKey("config")
IDENTITY: web.AppKey[Identity] = web.AppKey("identity")
EVENTS: web.AppKey[EventHub] = web.AppKey("events")
SAMPLER: web.AppKey[Sampler] = web.AppKey("sampler")
MANAGER: web.AppKey[Manager] = web.AppKey("manager")
JOBS: web.AppKey[Jobs] = web.AppKey("jobs")
DESCRIPTION: web.AppKey[SelfDescription] = web.AppKey("description")
RECOMMENDER: web.AppKey[Recommender] = web.AppKey("recommender")
PLANNER: web.AppKey[Planner] = web.AppKey("planner")
PEERS: web.AppKey[Peers] = web.AppKey("peers")
FORMATS: web.AppKey[RepoFormats] = web.AppKey("formats")
FORCE: web.AppKey[asyncio.Event] = web.AppKey("force")
STOP: web.AppKey[asyncio.Event] = web.AppKey("stop")
KEY_BOOK: web.AppKey[KeyBook] = web.AppKey("key_book")
TRUST: web.AppKey[Trust] = web.AppKey("trust")
LAN_DOOR: web.AppKey[LanDoor] = web.AppKey("lan_door")
APP_DOOR: web.AppKey[AppDoor] = web.AppKey("app_door")
PAIRING: web.AppKey[PairingDoor] = web.AppKey("pairing")
CLUSTER: web.AppKey[ClusterActs] = web.AppKey("cluster_acts")
MEMBER_WEIGHTS: web.AppKey[MemberWeights] = web.AppKey("member_weights")
RELAY: web.AppKey[Relay] = web.AppKey("relay")
PLACEMENT: web.AppKey[Placement] = web.AppKey("placement")
ROUTER: web.AppKey[Router] = web.AppKey("router")
SPREAD: web.AppKey[Spread] = web.AppKey("spread")
HELPERS: web.AppKey[Helpers] = web.AppKey("helpers")
BODY_LIMIT: web.AppKey[int] = web.AppKey("body_limit")
VISITORS: web.AppKey[Visitors] = web.AppKey("visitors")
