"""Real nodes that pair: by token and by digits; who is let in, who is turned out, and what strangers get."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clustering import Host, hosts, sees, until
from node_process import XIN

from xin.errors import BadRequest, Conflict, Forbidden, NotFound, Unreachable


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Three nodes in one cluster: bee and cat have joined ant."""
    with hosts(tmp_path_factory.mktemp("trio"), "ant", "bee", "cat") as found:
        ant, bee, cat = found
        bee.join(ant)
        cat.join(ant)
        yield found


def lan_port(host: Host) -> int:
    with host.client as client:
        port = client.node().lan_port
    assert port is not None
    return port


def test_each_member_lists_the_same_cluster(trio: list[Host]) -> None:
    for host, others in [(trio[0], ("bee", "cat")), (trio[1], ("ant", "cat")), (trio[2], ("ant", "bee"))]:
        until(sees(host, *others))
    listed = []
    for host in trio:
        with host.client as client:
            listed.append(client.members())
    assert len({one.cluster_id for one in listed}) == 1
    assert all({member.name for member in one.members} == {"ant", "bee", "cat"} for one in listed)


def test_secrets_are_for_this_user_alone(trio: list[Host]) -> None:
    files = [file for file in (trio[1].home / "data" / "cluster").rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"cluster.json", "node.pem"}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_a_stranger_gets_no_further_than_the_handshake(trio: list[Host]) -> None:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    for path in ("/health", "/v1/models", "/api/members"):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"https://127.0.0.1:{lan_port(trio[0])}{path}", verify=lax, trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{lan_port(trio[0])}/health", trust_env=False)


def test_what_members_tell_one_another_is_not_for_apps(trio: list[Host]) -> None:
    for what in ("greet", "renew", "left"):
        assert trio[0].http.post(f"/api/members/{what}", json={}).status_code == 403


def test_a_member_does_not_steer_anothers_trust(trio: list[Host]) -> None:
    bee_to_ant = own_tls(trio[1])
    with trio[0].client as client:
        ant_id = client.node().id
    base = f"https://127.0.0.1:{lan_port(trio[0])}"
    with httpx.Client(base_url=base, verify=bee_to_ant, trust_env=False) as peer:
        sni = {"extensions": {"sni_hostname": f"{ant_id}.xin.internal"}}
        assert peer.get("/api/node", **sni).json()["name"] == "ant"
        for method, path in [("GET", "/api/keys"), ("POST", "/api/pairing"), ("POST", "/api/trust/leave"),
                             ("POST", "/api/stop"), ("GET", "/"), ("GET", f"/api/nodes/{ant_id}/health")]:  # fmt: skip
            assert peer.request(method, path, **sni).status_code == 403, path
        lie = {"id": ant_id, "name": "ant", "addresses": [], "port": 1}
        assert peer.post("/api/members/greet", json=lie, **sni).status_code == 400


@pytest.mark.slow
def test_a_member_that_is_killed_is_gone_and_comes_back(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Host(tmp_path, "ant") as ant:
        with Host(tmp_path, "bee", port=port) as bee:
            bee.join(ant)
            bee.launch("echo", model_uid="parrot")
            until(lambda: (p := ant.peer("bee")) and [one.model_uid for one in p.instances] == ["parrot"])
            bee.process.send_signal(signal.SIGKILL)
            assert until(lambda: (p := ant.peer("bee")) and p.status == "gone") < 5
            assert ant.peer("bee").instances == []
            bee.process.wait()
        with Host(tmp_path, "bee", port=port):
            assert until(sees(ant, "bee")) < 3, "its papers are kept"


@pytest.mark.slow
def test_a_frozen_member_is_slow_then_gone(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee") as (ant, bee):
        bee.join(ant)
        until(sees(ant, "bee"))
        bee.process.send_signal(signal.SIGSTOP)
        try:
            assert until(lambda: ant.peer("bee").status != "alive") < 4
            assert until(lambda: ant.peer("bee").status == "gone") < 4
        finally:
            bee.process.send_signal(signal.SIGCONT)
        until(sees(ant, "bee"))


def test_a_revoked_node_is_out_everywhere(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee", "cat") as (ant, bee, cat):
        bee.join(ant)
        cat.join(ant)
        until(sees(cat, "ant", "bee"))
        before = own_tls(bee)
        with ant.client as client:
            token = client.open_pairing(token=True).secret
            rotated = client.revoke_member("bee")
        assert (rotated.told, rotated.missed) == (["cat"], [])
        until(sees(ant, "cat"))
        until(sees(cat, "ant"))
        for host in (ant, cat):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"https://127.0.0.1:{lan_port(host)}/health", verify=before, trust_env=False)
        with bee.client as client:
            client.leave_cluster()
            with pytest.raises((Unreachable, Forbidden)):  # the token was of the old authority
                client.join_cluster(token)
        bee.join(cat)
        until(sees(ant, "bee", "cat"))


@pytest.mark.slow
def test_leaving_tells_the_others(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee") as (ant, bee):
        bee.join(ant)
        until(sees(ant, "bee"))
        with bee.client as client:
            client.leave_cluster()
            assert client.members().cluster_id is None
            assert client.node().lan_port is None
            with pytest.raises(Conflict):
                client.leave_cluster()
        until(sees(ant))
        assert ant.peer("bee") is None
        assert not list((bee.home / "data" / "cluster").rglob("*.pem"))


def test_digits_on_both_terminals(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee") as (ant, bee):
        shows = subprocess.Popen(
            [*XIN, "pair", "-e", ant.url, "--json"],
            env=ant.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert shows.stdout is not None
        opened = json.loads(shows.stdout.readline())
        assert len(opened["secret"]) == 6
        types = subprocess.run(
            [*XIN, "pair", f"127.0.0.1:{opened['port']}", opened["secret"], "-e", bee.url, "--json"],
            env=bee.environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert types.returncode == 0, types.stderr
        assert json.loads(types.stdout)["node_name"] == "ant"
        _, said = shows.communicate(timeout=30)
        assert shows.returncode == 0
        assert "paired with bee" in said
        until(sees(ant, "bee"))
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", opened["port"]), 1).close()


def test_three_guesses_and_the_digits_are_worth_nothing(trio: list[Host]) -> None:
    ant, bee, _ = trio
    with ant.client as theirs, bee.client as own:
        opened = theirs.open_pairing()
        where = f"127.0.0.1:{opened.port}"
        for guess in range(3):
            wrong = f"{(int(opened.secret) + 1 + guess) % 1_000_000:06d}"
            with pytest.raises(Forbidden) as told:
                own.join_cluster(wrong, where)
            assert opened.secret not in told.value.message
        with pytest.raises((Forbidden, Unreachable)):
            own.join_cluster(opened.secret, where)
        assert ant.said().count("did not come in") >= 3
        assert opened.secret not in ant.said()


def test_what_is_no_token_nor_digits_is_refused(trio: list[Host]) -> None:
    with trio[0].client as client:
        for secret in ("XIN1-", "XIN1-" + "A" * 40, "12345", "abcdef", "1234567"):
            with pytest.raises(BadRequest):
                client.join_cluster(secret, "127.0.0.1:9")
        with pytest.raises(NotFound):
            client.revoke_member("nobody")


@pytest.mark.slow
def test_two_clusters_do_not_melt_into_one(trio: list[Host], tmp_path: Path) -> None:
    with hosts(tmp_path, "dog", "eel") as (dog, eel):
        eel.join(dog)
        with pytest.raises(Conflict):
            eel.join(trio[0])


def test_a_private_node_neither_shows_digits_nor_joins(tmp_path: Path) -> None:
    with Host(tmp_path, "hermit", private=True) as hermit, hermit.client as client:
        with pytest.raises(Conflict):
            client.open_pairing()
        with pytest.raises(Conflict):
            client.join_cluster("123456", "127.0.0.1")


def own_tls(host: Host) -> ssl.SSLContext:
    """What the node itself would connect with."""
    (pem,) = (host.home / "data" / "cluster").rglob("node.pem")
    authority = json.loads((pem.parent / "cluster.json").read_text())["certificate"]
    made = ssl.create_default_context(cadata=authority)
    made.load_cert_chain(pem)
    made.check_hostname = False
    return made


@pytest.mark.slow
def test_the_terminal_lists_and_leaves(tmp_path: Path) -> None:
    with hosts(tmp_path, "ant", "bee") as (ant, bee):
        token = xin(ant, "cluster", "token").stdout.strip()
        assert token.startswith("XIN1-")
        assert "in cluster" in xin(bee, "join", token).stderr
        assert {"ant", "bee"} <= set(xin(ant, "cluster").stdout.split())
        until(sees(ant, "bee"))
        assert "paired" in xin(ant, "nodes").stdout
        assert "has left cluster" in xin(bee, "cluster", "leave").stderr
        assert "in no cluster" in xin(bee, "cluster").stderr


def xin(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*XIN, *arguments, "-e", host.url],
        env=host.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done
