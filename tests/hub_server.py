"""A small Hugging Face hub on loopback: real huggingface_hub and xin's own reader fetch from it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

HEADER = f"bytes=0-{(4 << 20) - 1}"  # what plans ask for first (plan_headers.FIRST_BYTES)
LFS_BYTES = 100_000


class HubServer:
    """`with` it. `repos`: name → path → bytes.

    bytes_per_second  of each body, 0 = as fast as it goes
    cuts              after so many bytes of a body the connection is dropped, one of them a reply
    corrupt           bodies are of the right length, and wrong
    refuse            status of all replies for a repository
    faults            statuses of the next replies for files, one each; `listing_faults` of those for lists
    retry_after       seconds that a fault asks for
    redirect_to       base of the URL that files are redirected to
    renamed           old name → new name of a repository
    commits           what a repository calls its commit, where it shall not be a hash of its files
    tokens            (path, the Authorization that came) of each request
    log               (path, the Range that was asked for) of each body
    """

    def __init__(self, repos: dict[str, dict[str, bytes]], address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.repos = repos
        self.bytes_per_second = 0
        self.cuts: list[int] = []
        self.corrupt = False
        self.refuse: dict[str, int] = {}
        self.faults: list[int] = []
        self.listing_faults: list[int] = []
        self.retry_after = ""
        self.redirect_to = ""
        self.renamed: dict[str, str] = {}
        self.commits: dict[str, str] = {}
        self.tokens: list[tuple[str, str | None]] = []
        self.log: list[tuple[str, str]] = []
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(address, Handler)
        self._server.daemon_threads = True
        self.url = f"http://{address[0]}:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def downloads(self, path: str) -> list[str]:
        """Ranges of all GETs of a file but those for its header, with which a plan counts it."""
        return [asked for asked in self.ranges(path) if asked != HEADER]

    def ranges(self, path: str) -> list[str]:
        return [asked for name, asked in self.log if name == path]

    def commit(self, repo: str) -> str:
        if repo in self.commits:
            return self.commits[repo]
        text = "\n".join(f"{path} {sha256(body)}" for path, body in sorted(self.repos[repo].items()))
        return hashlib.sha1(text.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server_hub.tokens.append((path, self.headers.get("Authorization")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            self._metadata(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[3])
        else:
            self._reply(404, {})

    def _metadata(self, repo: str, what: str) -> None:
        hub = self.server_hub
        if self._refused(repo) or self._fault(hub.listing_faults):
            return
        entries: list[dict[str, Any]] = []
        for path, body in sorted(hub.repos[repo].items()):
            entry = {"rfilename": path, "path": path, "type": "file", "size": len(body)}
            entry |= {"blobId": git_hash(body), "oid": git_hash(body)}
            if len(body) >= LFS_BYTES:
                lfs = {"size": len(body), "sha256": sha256(body), "oid": sha256(body), "pointerSize": 134}
                entry["lfs"] = lfs
            entries.append(entry)
        about = {"_id": "0" * 24, "id": repo, "sha": hub.commit(repo), "private": False, "siblings": entries}
        body = json.dumps(entries if what == "tree" else about).encode()
        self._reply(200, {"Content-Type": "application/json"}, body)

    def _refused(self, repo: str) -> bool:
        hub = self.server_hub
        status = hub.refuse.get(repo, 200 if repo in hub.repos else 404)
        codes = {401: "RepoNotFound", 403: "GatedRepo", 404: "RepoNotFound"}
        if status != 200:
            self._reply(status, {"X-Error-Code": codes.get(status, ""), "X-Error-Message": "refused"})
        return status != 200

    def _fault(self, statuses: list[int]) -> bool:
        status = statuses.pop(0) if statuses else 0
        if status:
            after = self.server_hub.retry_after
            self._reply(status, {"Retry-After": after} if after else {})
        return status != 0

    def _file(self, repo: str, path: str) -> None:
        hub = self.server_hub
        if repo in hub.renamed:
            self._reply(307, {"Location": self.path.replace(repo, hub.renamed[repo], 1)})
            return
        if hub.redirect_to:
            self._reply(302, {"Location": hub.redirect_to + self.path})
            return
        if self._refused(repo) or self._fault(hub.faults):
            return
        body = hub.repos[repo].get(path)
        if body is None:
            self._reply(404, {"X-Error-Code": "EntryNotFound"})
            return
        etag = sha256(body) if len(body) >= LFS_BYTES else git_hash(body)
        headers = {"X-Repo-Commit": hub.commit(repo), "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        asked, start, status = self.headers.get("Range", ""), 0, 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", asked):
            start, end, status = int(found[1]), int(found[2] or len(body) - 1), 206
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            body = body[: end + 1]
        if self.command == "GET":
            hub.log.append((path, asked))
        if hub.corrupt:
            body = bytes(len(body))
        self._reply(status, headers, body[start:])

    def _reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        hub = self.server_hub
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = hub.cuts.pop(0) if hub.cuts and status in (200, 206) and "ETag" in headers else len(body)
        try:
            for at in range(0, cut, 32768):
                piece = body[at : min(at + 32768, cut)]
                self.wfile.write(piece)
                if hub.bytes_per_second and "ETag" in headers:
                    time.sleep(len(piece) / hub.bytes_per_second)
        except OSError:
            self.close_connection = True
        if cut < len(body):
            self.close_connection = True


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
