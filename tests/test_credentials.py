"""Where the API server is and who we are: from real kubeconfigs, and noticed when they change."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import pytest
import yaml

from kexport.credentials import Credentials, token_files
from kexport.errors import ApiError, ConfigError
from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster

MAPS = "/api/v1/configmaps"


@pytest.fixture(autouse=True)
def _outside_of_any_cluster(monkeypatch, tmp_path):
    for name in ("KUBERNETES_SERVICE_HOST", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
async def cluster():
    async with FakeCluster(token="old") as cluster:
        yield cluster


@pytest.fixture
def seldom_checked(monkeypatch):
    """Files are not looked at while the test runs, however long it takes: only a refusal tells."""
    monkeypatch.setattr("kexport.transport.CREDENTIAL_CHECK_SECONDS", 3600.0)


@asynccontextmanager
async def connected(path):
    client = Client(ClusterConfig(kubeconfig=str(path), list_requests_per_second=10_000))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


def write_kubeconfig(path, *, server="http://127.0.0.1:1", name="one", **user):
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def replace(path, text):
    """As an operator or the kubelet does it: a new file under the old name."""
    new = path.with_name("new")
    new.write_text(text, encoding="utf-8")
    os.utime(new, ns=(1, 1))
    new.replace(path)


async def load(path, **more):
    credentials = Credentials(ClusterConfig(kubeconfig=str(path), **more))
    return credentials, await credentials.load()


async def refuse(path, **more):
    with pytest.raises(ConfigError) as caught:
        await load(path, **more)
    return str(caught.value)


async def test_a_url_needs_no_credentials_and_never_gets_stale():
    credentials = Credentials(ClusterConfig(url="http://127.0.0.1:8001/"))
    assert (await credentials.load()).host == "http://127.0.0.1:8001"
    assert not credentials.stale


async def test_a_kubeconfig_gives_server_and_token(tmp_path):
    path = write_kubeconfig(tmp_path / "config", server="http://127.0.0.1:7", token="t0ken")
    _, settings = await load(path)
    assert settings.host == "http://127.0.0.1:7"
    assert settings.api_key["BearerToken"] == "Bearer t0ken"


async def test_the_usual_places_are_looked_at(tmp_path, monkeypatch):
    write_kubeconfig(tmp_path / "home/.kube/config", server="http://home")
    assert (await Credentials(ClusterConfig()).load()).host == "http://home"
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "env", server="http://env")))
    assert (await Credentials(ClusterConfig()).load()).host == "http://env"
    configured = write_kubeconfig(tmp_path / "configured", server="http://configured")
    assert (await load(configured))[1].host == "http://configured"


async def test_several_kubeconfigs_are_one(tmp_path, monkeypatch):
    one = write_kubeconfig(tmp_path / "one", server="http://one")
    two = write_kubeconfig(tmp_path / "two", server="http://two", name="two")
    monkeypatch.setenv("KUBECONFIG", f"{one}{os.pathsep}{two}{os.pathsep}{tmp_path}/missing")
    assert (await Credentials(ClusterConfig()).load()).host == "http://one"
    assert (await Credentials(ClusterConfig(context="two")).load()).host == "http://two"


async def test_no_kubeconfig_at_all_is_refused_with_ways_out(tmp_path):
    message = await refuse(tmp_path / "missing")
    assert message.startswith(f"cluster.kubeconfig: no such file: {tmp_path}/missing")
    assert "$KUBECONFIG" in message
    assert "cluster.url" in message


@pytest.mark.parametrize(
    "text", ["", "just text", "{", "clusters: 3", "users: [1]", "apiVersion: v1\nkind: Config"]
)
async def test_a_broken_kubeconfig_is_refused_with_its_path(tmp_path, text):
    (tmp_path / "config").write_text(text, encoding="utf-8")
    assert (await refuse(tmp_path / "config")).startswith(
        f"cluster.kubeconfig: {tmp_path}/config cannot be used: "
    )


async def test_an_unknown_context_is_refused_with_its_name(tmp_path):
    message = await refuse(write_kubeconfig(tmp_path / "config"), context="elsewhere")
    assert "elsewhere" in message


async def test_unchanged_files_are_not_stale(tmp_path):
    credentials, _ = await load(write_kubeconfig(tmp_path / "config", token="a"))
    assert not credentials.stale


async def test_a_replaced_kubeconfig_is_stale_until_it_is_loaded(tmp_path):
    path = write_kubeconfig(tmp_path / "config", token="a")
    credentials, _ = await load(path)
    replace(path, path.read_text(encoding="utf-8").replace("token: a", "token: b"))
    assert credentials.stale
    assert (await credentials.load()).api_key["BearerToken"] == "Bearer b"
    assert not credentials.stale


async def test_a_deleted_kubeconfig_is_stale(tmp_path):
    path = write_kubeconfig(tmp_path / "config", token="a")
    credentials, _ = await load(path)
    path.unlink()
    assert credentials.stale


async def test_a_kubeconfig_that_comes_into_being_is_noticed(tmp_path, monkeypatch):
    one = write_kubeconfig(tmp_path / "one")
    monkeypatch.setenv("KUBECONFIG", f"{one}{os.pathsep}{tmp_path}/two")
    credentials = Credentials(ClusterConfig())
    await credentials.load()
    write_kubeconfig(tmp_path / "two", name="two")
    assert credentials.stale


async def test_a_rotated_token_file_is_stale_until_it_is_loaded(tmp_path):
    (tmp_path / "token").write_text("first", encoding="utf-8")
    path = write_kubeconfig(tmp_path / "config", tokenFile=str(tmp_path / "token"))
    credentials, settings = await load(path)
    assert settings.api_key["BearerToken"] == "Bearer first"
    replace(tmp_path / "token", "second")
    assert credentials.stale
    assert (await credentials.load()).api_key["BearerToken"] == "Bearer second"


async def test_an_exec_plugin_is_run_at_every_load(tmp_path):
    script = tmp_path / "login"
    script.write_text(
        f"#!/bin/sh\necho run >> {tmp_path}/runs\n"
        'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"from-exec"}}\'\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    login = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "interactiveMode": "Never",
    }
    path = write_kubeconfig(tmp_path / "config", exec=login)
    credentials, settings = await load(path)
    await credentials.load()
    assert settings.api_key["BearerToken"] == "Bearer from-exec"
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "run\nrun\n"


def test_token_files_are_found_beside_the_kubeconfig_that_names_them(tmp_path):
    path = write_kubeconfig(tmp_path / "deep/config", tokenFile="token")
    assert token_files([path, tmp_path / "missing"]) == [tmp_path / "deep/token"]


def test_a_kubeconfig_without_users_names_no_token_files(tmp_path):
    (tmp_path / "config").write_text("users:\n- name: x\n", encoding="utf-8")
    (tmp_path / "empty").write_text("", encoding="utf-8")
    assert token_files([tmp_path / "config", tmp_path / "empty"]) == []


# -- as the client uses them ------------------------------------------------------------------------------


@pytest.mark.usefixtures("seldom_checked")
async def test_a_401_loads_the_credentials_again_and_asks_once_more(cluster, tmp_path):
    async with connected(cluster.kubeconfig(tmp_path)) as client:
        await client.get("/version")
        cluster.token = "new"
        cluster.kubeconfig(tmp_path)
        await client.get(MAPS)
        assert [request.path for request in cluster.requests] == ["/version", MAPS, MAPS]


async def test_a_401_that_stays_is_an_error_after_the_second_try(cluster, tmp_path):
    path = cluster.kubeconfig(tmp_path)
    cluster.token = "changed"
    async with connected(path) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(MAPS)
        assert caught.value.status == 401
        assert len(cluster.requests) == 2


@pytest.mark.usefixtures("seldom_checked")
async def test_a_401_to_a_watch_renews_as_well(cluster, tmp_path):
    async with connected(cluster.kubeconfig(tmp_path)) as client:
        await client.get("/version")
        cluster.token = "new"
        cluster.kubeconfig(tmp_path)
        async with client.watch(MAPS, {}):
            assert len(cluster.requests) == 3


async def test_many_401s_at_once_load_the_credentials_once(cluster, tmp_path):
    path = cluster.kubeconfig(tmp_path)
    script = f"cat {tmp_path}/token; echo run >> {tmp_path}/runs"
    status = (
        '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
    )
    (tmp_path / "token").write_text(status % "old", encoding="utf-8")
    login = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}
    user = json.dumps({"exec": login | {"interactiveMode": "Never"}})
    path.write_text(path.read_text(encoding="utf-8").replace("token: old", f"{user[1:-1]}"), encoding="utf-8")
    async with connected(path) as client:
        await client.get("/version")
        (tmp_path / "token").write_text(status % "new", encoding="utf-8")
        cluster.token = "new"
        await asyncio.gather(*(client.get(MAPS) for _ in range(10)))
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "run\nrun\n"


async def test_a_rotated_token_is_used_before_the_server_complains(cluster, tmp_path):
    async with connected(cluster.kubeconfig(tmp_path)) as client:
        cluster.token = "new"
        path = cluster.kubeconfig(tmp_path)
        later = path.stat().st_mtime_ns + 10**9  # the file system's clock may not have gone on meanwhile
        os.utime(path, ns=(later, later))
        await client.get(MAPS)
        assert len(cluster.requests) == 1


async def test_an_open_watch_goes_on_while_credentials_are_renewed(cluster, tmp_path):
    query = {"resourceVersion": str(cluster.revision)}
    async with connected(cluster.kubeconfig(tmp_path)) as client, client.watch(MAPS, query) as batches:
        cluster.token = "new"
        cluster.kubeconfig(tmp_path)
        await client.get(MAPS)
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
        assert b'"ADDED"' in (await anext(batches))[0]


async def test_missing_credentials_are_refused_before_anything_is_sent(tmp_path):
    client = Client(ClusterConfig(kubeconfig=str(tmp_path / "missing")))
    with pytest.raises(ConfigError):
        await client.open()
    await client.close()


async def test_a_certificate_authority_that_is_none_is_refused(tmp_path):
    path = write_kubeconfig(tmp_path / "config", server="https://127.0.0.1:1")
    text = path.read_text(encoding="utf-8").replace(
        "server:", "certificate-authority-data: bm9uZQ==\n    server:"
    )
    path.write_text(text, encoding="utf-8")
    client = Client(ClusterConfig(kubeconfig=str(path)))
    with pytest.raises(ConfigError, match="kubeconfig"):
        await client.open()
    await client.close()


async def test_an_exec_plugin_that_fails_is_named_instead_of_going_on_as_nobody(tmp_path):
    broken = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}
    path = write_kubeconfig(tmp_path / "config", exec=broken)
    with pytest.raises(ConfigError, match=r"the exec plugin of .* gave no credentials"):
        await Credentials(ClusterConfig(kubeconfig=str(path))).load()
