"""A member's papers on the disk: the passport, and its own certificate; 0600 files in a folder of this node alone."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from xin import paths
from xin.errors import InternalError
from xin.protocol.trust import Passport

QUIET_SECONDS = 60.0
log = logging.getLogger("xin.node")


@dataclass(slots=True)
class Papers:
    """`server` asks who connects for a certificate of the cluster; `client` shows this node's."""

    cluster_id: str
    passport: Passport
    server: ssl.SSLContext
    client: ssl.SSLContext


class Drawer:
    """Where papers are kept. All of it blocks: call it in a thread."""

    def __init__(self, folder: Path, node_id: str) -> None:
        self._folder = folder
        self._node_id = node_id

    def load(self) -> Papers | None:
        """None when this node is in no cluster, or its papers cannot be read."""
        try:
            content = (self._folder / "cluster.json").read_bytes()
            return self._with_contexts(msgspec.json.decode(content, type=Passport))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, InternalError) as exc:
            log.error("this node is in no cluster now, since its papers in %s cannot be read: %s", self._folder, exc)
            return None

    def put(self, passport: Passport) -> Papers:
        """Keep `passport`, with a new certificate of this node. Raises InternalError; then the old ones stay."""
        from xin.node.trust import authority

        authority.check(passport)
        self._write("node.pem", authority.issue(passport, self._node_id).encode())
        self.keep_members(passport)
        return self._with_contexts(passport)

    def keep_members(self, passport: Passport) -> None:
        self._write("cluster.json", msgspec.json.encode(passport))

    def empty(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _with_contexts(self, passport: Passport) -> Papers:
        from xin.node.trust import authority

        own = self._folder / "node.pem"
        try:
            server = _context(ssl.PROTOCOL_TLS_SERVER, own, passport.certificate)
            server.verify_mode = ssl.CERT_REQUIRED
            server.sslobject_class = Knock
            client = _context(ssl.PROTOCOL_TLS_CLIENT, own, passport.certificate)
        except (OSError, ssl.SSLError) as exc:
            raise InternalError(f"the certificate {own} cannot be used: {exc}") from exc
        return Papers(authority.cluster_id(passport), passport, server, client)

    def _write(self, name: str, data: bytes) -> None:
        file = paths.private(self._folder) / name
        draft = file.with_suffix(".draft")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            draft.replace(file)
        except OSError as exc:
            raise InternalError(f"cannot write {file}: {exc.strerror}", "nothing has changed") from exc


class Knock(ssl.SSLObject):
    """A connection to the door for members; who gets no further than the handshake is in the log, once a minute."""

    told_at = float("-inf")

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as exc:
            now = time.monotonic()
            if now - Knock.told_at >= QUIET_SECONDS:
                Knock.told_at = now
                log.warning("refused a connection to the port for paired nodes: %s", _reason(exc))
            raise


def _reason(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not of this cluster ({exc.verify_message})"
    return "it showed no certificate" if exc.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE" else str(exc.reason or exc)


def _context(protocol: int, own: Path, authority_pem: str) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(own)
    made.load_verify_locations(cadata=authority_pem)
    return made
