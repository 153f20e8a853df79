"""The certificate by which apps on other hosts know this node: its own, made anew when it must be, or a given one."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from xin import paths
from xin.config import NodeConfig
from xin.errors import UsageError
from xin.protocol.trust import Passport, ServerCertificate

LOOK_SECONDS = 60.0
RENEW_DAYS = 30
_NAME = "node.pem"
log = logging.getLogger("xin.node")


class TlsDoor:
    """`context` is for the listener. `open` it once; `watch` then keeps its certificate good, for new connections.

    `addresses`: where others reach this host. What reads and writes files is blocking.
    """

    def __init__(self, config: NodeConfig, folder: Path, addresses: Callable[[], Sequence[str]]) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._config = config
        self._folder = folder
        self._addresses = addresses
        self._loaded: tuple[int, ...] = ()

    def open(self) -> None:
        """Blocking. Raises UsageError for a certificate that cannot be used or made."""
        if self._config.tls_cert:
            self._load(Path(self._config.tls_cert).expanduser(), Path(self._config.tls_key).expanduser())
            return
        try:
            self._renew()
        except OSError as exc:
            raise UsageError(f"cannot keep a certificate in {self._folder}: {exc.strerror}", "free the disk") from exc

    async def watch(self) -> None:
        """Until cancelled: a given certificate that was written anew is taken; the own one follows names and time."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.open)
            except UsageError as exc:
                log.warning("the certificate stays as it was: %s", exc.message)

    def told(self) -> ServerCertificate:
        """What an app needs to know this node by. Blocking."""
        from xin.node.trust import authority

        own = not self._config.tls_cert
        served = (self._folder / _NAME if own else Path(self._config.tls_cert).expanduser()).read_bytes()
        names, ends_at = authority.hosts_of(_certificates(served))
        return ServerCertificate(
            authority=self._authority().certificate if own else "",
            fingerprint=authority.fingerprint(_certificates(served)),
            hosts=sorted(names),
            ends_at=ends_at.timestamp(),
        )

    def hosts(self) -> list[str]:
        """The names and addresses by which this node may be asked."""
        name = socket.gethostname().lower()
        given = [one.lower().rstrip(".") for one in self._config.allowed_hosts]
        host = [] if self._config.host in ("0.0.0.0", "::") else [self._config.host]
        named = {name, f"{name.removesuffix('.local')}.local", "localhost", *given}
        return [*sorted(filter(_can_stand_in_a_certificate, named)), *dict.fromkeys([*host, *self._addresses()])]

    def _renew(self) -> None:
        """Make the own certificate anew where it ends soon or lacks a name, and load it."""
        from xin.node.trust import authority

        file, wanted = self._folder / _NAME, self.hosts()
        with contextlib.suppress(FileNotFoundError, ValueError):
            names, ends_at = authority.hosts_of(_certificates(file.read_bytes()))
            left = ends_at - datetime.datetime.now(datetime.UTC)
            if names >= set(wanted) and left.days >= RENEW_DAYS:
                self._load(file, file)
                return
        made = authority.issue_for_hosts(self._authority(), f"xin {socket.gethostname()}"[:64], wanted)
        _write(file, made.encode())
        log.info("made a certificate for %s", ", ".join(wanted))
        self._load(file, file)

    def _authority(self) -> Passport:
        """Made at the first call, and the same ever after: apps trust it."""
        from xin.node.trust import authority

        file = self._folder / "authority.json"
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode(file.read_bytes(), type=Passport)
        made = authority.founded(f"xin node {socket.gethostname()}"[:64])
        _write(file, msgspec.json.encode(made))
        return made

    def _load(self, certificate: Path, key: Path) -> None:
        """Only what has changed. Raises UsageError."""
        try:
            stamp = tuple(path.stat().st_mtime_ns for path in (certificate, key))
            if stamp != self._loaded:
                self.context.load_cert_chain(certificate, key, password="")
                self._loaded = stamp
        except (OSError, ssl.SSLError) as exc:
            reason = exc.strerror or str(exc)
            raise UsageError(
                f"{certificate} and {key} cannot be used: {reason}",
                "give a PEM certificate with its chain, and its key without a password",
                param="tls_cert",
            ) from exc


def _certificates(pem: bytes) -> bytes:
    """Without a key that stands before them."""
    return pem[max(pem.find(b"-----BEGIN CERTIFICATE"), 0) :]


def _can_stand_in_a_certificate(name: str) -> bool:
    return name.isascii() and bool(name) and "_" not in name and len(name) <= 253


def _write(file: Path, data: bytes) -> None:
    paths.private(file.parent)
    draft = file.with_suffix(".draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    draft.replace(file)
