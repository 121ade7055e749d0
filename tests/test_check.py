import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kexport.testing.cluster import FakeCluster
from kexport.testing.raw import serving
from tests.commandline import ROOT, CommandLine, Outcome


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


def problems(outcome: Outcome) -> list[str]:
    return [
        line.removeprefix("problem").strip()
        for line in outcome.out.splitlines()
        if line.startswith("problem")
    ]


def warnings(outcome: Outcome) -> list[str]:
    return [line for line in outcome.out.splitlines() if line.startswith("warning")]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


async def test_all_is_well(shell: CommandLine, cluster: FakeCluster):
    resources = (
        '[[resources]]\nresource = "po"\n[[resources]]\nresource = "deploy"\nnamespaces = ["shop", "web"]\n'
    )
    shell.configure(f"url = '{cluster.url}'", resources=resources)
    before = files(shell.folder)
    outcome = await shell.run("check")
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    assert problems(outcome) == []
    assert "ok       permissions: may list and watch deployments.apps in namespace shop\n" in outcome.out
    assert "3 streams to watch:\n  pods/*\n  deployments.apps/shop\n  deployments.apps/web\n" in outcome.out
    assert "1 sink to write to:\n  audit (probe): everything\n" in outcome.out
    assert outcome.out.endswith("\nall is well\n")
    assert files(shell.folder) - before == {"state", "state/lock"}, "check makes the state directory only"


async def test_the_report_for_programs(shell: CommandLine, cluster: FakeCluster):
    cluster.deny("watch", "pods")
    shell.configure(f"url = '{cluster.url}'")
    code, out, _ = await shell.run("check", "-o", "json")
    report = json.loads(out)
    assert code == report["exit_code"] == 2
    assert [each["what"] for each in report["checks"] if each["status"] == "problem"] == ["permissions"]
    assert report["streams"][0]["stream"] == "pods/*"
    assert report["sinks"] == {"audit": "probe: everything"}


async def test_an_unknown_resource_comes_with_a_suggestion_and_hides_nothing_else(
    shell: CommandLine, cluster: FakeCluster
):
    cluster.deny("*", "configmaps")
    resources = "".join(f'[[resources]]\nresource = "{each}"\n' for each in ("podz", "deplyments", "cm"))
    shell.configure(f"url = '{cluster.url}'", resources=resources)
    outcome = await shell.run("check")
    assert outcome.code == 2
    first, second, third = problems(outcome)
    assert first.startswith(
        "resources[0].resource: unknown resource 'podz', did you mean 'pods'?; `kexport re"
    )
    assert second.startswith(
        "resources[1].resource: unknown resource 'deplyments', did you mean 'deployments'"
    )
    assert third.startswith("permissions: may not list or watch configmaps in all namespaces")
    assert outcome.out.endswith("3 problems found\n")


async def test_a_resource_that_may_be_installed_later_is_a_warning(shell: CommandLine, cluster: FakeCluster):
    resources = "".join(f'[[resources]]\nresource = "{each}"\n' for each in ("pods", "widgets.example.com"))
    shell.configure(f"url = '{cluster.url}'", resources=resources)
    outcome = await shell.run("check")
    assert outcome.code == 0
    (warning,) = warnings(outcome)
    assert "resources[1].resource: unknown resource 'widgets.example.com'" in warning
    assert warning.endswith("run waits until it is installed")


async def test_a_forbidden_resource(shell: CommandLine, cluster: FakeCluster):
    cluster.deny("watch", "pods")
    shell.configure(f"url = '{cluster.url}'")
    outcome = await shell.run("check")
    assert outcome.code == 2
    (problem,) = problems(outcome)
    assert problem == (
        "permissions: may not watch pods in all namespaces;"
        " grant it: kexport rbac -c config.toml | kubectl apply -f -"
    )


async def test_kube_system_matters_only_while_the_cluster_has_no_name(
    shell: CommandLine, cluster: FakeCluster
):
    cluster.deny("get", "namespaces")
    shell.configure(f"url = '{cluster.url}'")
    outcome = await shell.run("check")
    assert outcome.code == 2
    assert [line.partition(":")[0] for line in problems(outcome)] == ["cluster.name"]
    shell.configure(f"url = '{cluster.url}'\nname = 'prod-eu'")
    outcome = await shell.run("check")
    assert outcome.code == 0, outcome
    assert f"cluster: {cluster.url} answers, and events call it prod-eu" in outcome.out


async def test_an_unreachable_server_may_come_back(shell: CommandLine):
    shell.configure("url = 'http://127.0.0.1:1'", sink="mode = 'unreachable'")
    outcome = await shell.run("check")
    assert outcome.code == 1
    server, sink = problems(outcome)
    assert server.startswith("cluster: cannot reach the API server http://127.0.0.1:1: Cannot connect")
    assert sink.startswith("sinks.audit: no broker answers"), "the sinks are tried all the same"


async def test_a_server_that_says_nothing(shell: CommandLine, cluster: FakeCluster):
    shell.configure(f"url = '{cluster.url}'")
    with cluster.stall():
        outcome = await shell.run("check", "--timeout", "0.5")
    assert outcome.code == 1
    assert problems(outcome) == [f"cluster: no answer from {cluster.url} within 0.5 s; --timeout allows more"]


async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Says nothing."""


async def test_a_certificate_that_nobody_trusts(shell: CommandLine):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ROOT / "tests/tls/untrusted.crt", ROOT / "tests/tls/untrusted.key")
    async with serving(hang_up, ssl=context) as port:
        address = f"https://127.0.0.1:{port}"
        shell.configure(f"url = '{address}'")
        outcome = await shell.run("check")
    assert outcome.code == 2, "waiting does not help"
    (problem,) = problems(outcome)
    assert problem.startswith(f"cluster: the certificate of the API server {address} is not trusted")
    assert problem.endswith("check certificate-authority in the kubeconfig")


async def test_credentials_that_are_not_accepted(shell: CommandLine):
    async with FakeCluster(token="right") as cluster:
        cluster.kubeconfig(shell.folder)
        cluster.token = "other"
        shell.configure("kubeconfig = 'kubeconfig'")
        outcome = await shell.run("check")
        assert outcome.code == 2
        assert f"{cluster.url} does not accept the credentials" in problems(outcome)[0]


async def test_a_kubeconfig_that_is_not_there(shell: CommandLine):
    shell.configure("kubeconfig = 'nowhere'")
    outcome = await shell.run("check")
    assert outcome.code == 2
    assert problems(outcome)[0].startswith("cluster: cluster.kubeconfig: no such file: nowhere")


def _unknown_type(text: str) -> str:
    return text.replace("'probe'", "'prob'")


def _misspelt_key(text: str) -> str:
    return text.replace("path = 'events", "paht = 'events")


def _misspelt_section(text: str) -> str:
    return text.replace("[journal]", "[jurnal]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_unknown_type, "sinks.audit.type: unknown sink type 'prob', did you mean 'probe'?; installed:"),
        (_misspelt_key, "sinks.audit: unknown key 'paht', did you mean 'path'?; known:"),
        (_misspelt_section, "unknown key 'jurnal', did you mean 'journal'?; known:"),
    ],
)
async def test_mistakes_in_the_file(shell: CommandLine, spoil: Callable[[str], str], message: str):
    path = shell.configure("url = 'http://127.0.0.1:1'")
    path.write_text(spoil(path.read_text()))
    outcome = await shell.run("check")
    assert outcome.code == 2
    (problem,) = problems(outcome)
    assert problem.startswith(f"configuration: config.toml: {message}")


async def test_a_sink_that_cannot_be_reached_may_come_back(shell: CommandLine, cluster: FakeCluster):
    shell.configure(f"url = '{cluster.url}'", sink="mode = 'unreachable'")
    outcome = await shell.run("check")
    assert outcome.code == 1
    assert problems(outcome) == ["sinks.audit: no broker answers at 127.0.0.1:9; see bootstrap_servers"]


async def test_a_sink_that_refuses_its_settings_without_showing_a_secret(
    shell: CommandLine, cluster: FakeCluster
):
    shell.environment["PASSWORD"] = "hunter22"
    shell.configure(f"url = '{cluster.url}'", sink="mode = 'choosy'\npassword = '${PASSWORD}'")
    outcome = await shell.run("check")
    assert outcome.code == 2
    assert problems(outcome) == ["sinks.audit: password ${PASSWORD} is refused; name another"]


async def test_a_sink_with_a_bug(shell: CommandLine, cluster: FakeCluster):
    shell.configure(f"url = '{cluster.url}'", sink="mode = 'buggy'")
    outcome = await shell.run("check")
    assert (outcome.code, outcome.err) == (1, "")
    assert problems(outcome) == ["sinks.audit: type probe fails: ZeroDivisionError: a bug"]


async def test_a_sink_that_hangs_in_a_thread_does_not_hang_the_check(
    shell: CommandLine, cluster: FakeCluster
):
    shell.configure(f"url = '{cluster.url}'", sink="mode = 'hanging'")
    outcome = await shell.run("check", "--timeout", "10")
    assert outcome.code == 1
    assert problems(outcome) == ["sinks.audit: no answer within 10 s; --timeout allows more"]
    assert outcome.out.endswith("1 problem found\n")


async def test_a_state_directory_that_cannot_be_written(shell: CommandLine, cluster: FakeCluster):
    path = shell.configure(f"url = '{cluster.url}'")
    path.write_text(path.read_text().replace("'state'", "'config.toml/state'"))
    outcome = await shell.run("check")
    assert outcome.code == 2
    (problem,) = problems(outcome)
    assert problem.startswith("journal: journal.path: cannot write to the state directory config.toml/state")
    assert problem.endswith("make it writable, or name another")


async def test_a_selector_that_the_server_refuses(shell: CommandLine, cluster: FakeCluster):
    selector = '[[resources]]\nresource = "pods"\nfield_selector = "status.fase=Running"\n'
    shell.configure(f"url = '{cluster.url}'", resources=selector)
    outcome = await shell.run("check")
    assert outcome.code == 2
    (problem,) = problems(outcome)
    assert problem.startswith("selector of pods/*?fields=status.fase=Running: is refused: field label not")


async def test_a_broken_plugin_is_a_warning_while_nobody_needs_it(shell: CommandLine, cluster: FakeCluster):
    (shell.folder / "site" / "kexport_broken.py").write_text("import a_library_that_is_missing\n")
    shell.install("broken", "kexport_broken")
    path = shell.configure(f"url = '{cluster.url}'")
    outcome = await shell.run("check")
    assert outcome.code == 0
    warning = (
        "warning  plugin broken: could not be loaded: ModuleNotFoundError: No module named"
        " 'a_library_that_is_missing'; mend or uninstall kexport-broken 1.0"
    )
    assert warning in warnings(outcome)
    path.write_text(path.read_text().replace("'probe'", "'broken'"))
    outcome = await shell.run("check")
    assert outcome.code == 2
    assert warning in warnings(outcome)
    assert "its plugin kexport-broken did not load: ModuleNotFoundError" in problems(outcome)[0]


async def test_two_plugins_of_one_name(shell: CommandLine):
    shell.install("twin", "tests.probe_sinks")
    shell.configure("url = 'http://127.0.0.1:1'")
    outcome = await shell.run("check")
    assert outcome.code == 2
    assert "sink type 'probe' is offered by both" in problems(outcome)[0]


async def test_names_in_routes_and_transforms(shell: CommandLine, cluster: FakeCluster):
    resources = (
        '[[resources]]\nresource = "pods"\n'
        '[[routes]]\nresources = ["deploymens"]\nsinks = ["audit"]\n'
        '[[transforms]]\nresources = ["secretz"]\ndrop = ["status"]\n'
    )
    shell.configure(f"url = '{cluster.url}'", resources=resources)
    outcome = await shell.run("check")
    assert outcome.code == 2
    places = [line.partition(": ")[0] for line in problems(outcome)]
    assert places == ["routes[0].resources", "transforms[0].resources"]
    assert "audit (probe): routes[0]" in outcome.out
