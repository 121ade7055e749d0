import json
from pathlib import Path

import jsonschema
import pytest

from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


async def test_resources_as_kubectl_shows_them(shell: CommandLine):
    async with FakeCluster() as cluster:
        code, out, err = await shell.run("resources", "--url", cluster.url)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "WATCHABLE"]
    assert ["deployments", "deploy", "apps/v1", "true", "Deployment", "true"] in rows
    assert ["componentstatuses", "cs", "v1", "false", "ComponentStatus", "false"] in rows
    assert rows.index(["pods", "po", "v1", "true", "Pod", "true"]) < rows.index(
        ["deployments", "deploy", "apps/v1", "true", "Deployment", "true"]
    ), "core first"


async def test_resources_for_programs(shell: CommandLine):
    async with FakeCluster() as cluster:
        cluster.kubeconfig(shell.folder)
        found = json.loads((await shell.run("resources", "--kubeconfig", "kubeconfig", "-o", "json")).out)
        shell.configure(f"url = '{cluster.url}'")
        names = (await shell.run("resources", "-c", "config.toml", "-o", "name")).out.splitlines()
    assert names == [each["resource"] for each in found]
    assert "deployments.apps" in names
    (pods,) = [each for each in found if each["resource"] == "pods"]
    assert pods["watchable"] is True
    assert pods["short_names"] == ["po"]


async def test_groups_that_do_not_answer_are_named(shell: CommandLine):
    async with FakeCluster(aggregated_discovery=False) as cluster:
        cluster.fail(503, times=99, path_contains="/apis/batch/v1")
        code, out, err = await shell.run("resources", "--url", cluster.url)
    assert code == 0
    assert "deployments" in out
    assert "cronjobs" not in out
    assert err == "kexport: these groups did not answer: batch/v1\n"


async def test_resources_of_an_unreachable_server_is_exit_code_1(shell: CommandLine):
    code, out, err = await shell.run("resources", "--url", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("kexport: cannot reach the API server http://127.0.0.1:1")


async def test_names_from_the_server_cannot_act_on_the_terminal(shell: CommandLine):
    async with FakeCluster() as cluster:
        cluster.fail(503, times=99, path_contains="kube-system")
        code, _, err = await shell.run("resources", "--url", f"{cluster.url}/\x1b[31m")
    assert code == 1
    assert "\x1b" not in err


async def test_plugins_with_their_problems(shell: CommandLine):
    shell.install("broken", "there_is_no_such_module")
    code, out, err = await shell.run("plugins")
    assert (code, err) == (0, "")
    shown, _, why = out.partition("\n\n")
    rows = {line.split()[0]: line.split(maxsplit=5) for line in shown.splitlines()}
    assert rows["TYPE"] == ["TYPE", "DISTRIBUTION", "VERSION", "API", "MODULE", "STATUS"]
    assert rows["probe"] == ["probe", "kexport-probe", "1.0", "1", "tests.probe_sinks", "ok"]
    broken = ["(broken)", "kexport-broken", "1.0", "-", "there_is_no_such_module", "did not load"]
    assert rows["(broken)"] == broken
    assert why.startswith("broken did not load: ModuleNotFoundError: No module named 'there_is_no_such")
    assert max(map(len, out.splitlines())) <= 100
    assert "Traceback" not in out


async def test_verbose_plugins_show_where_one_broke(shell: CommandLine):
    (shell.site / "broken_plugin.py").write_text(
        "def begin():\n    raise RuntimeError('bad start')\n\nbegin()\n"
    )
    shell.install("broken", "broken_plugin")
    out = (await shell.run("plugins", "-v")).out
    assert "broken did not load: RuntimeError: bad start\n" in out
    assert "    raise RuntimeError('bad start')\n" in out
    found = json.loads((await shell.run("plugins", "-o", "json")).out)
    (broken,) = [each for each in found if each["plugin"] == "broken"]
    assert (broken["type"], broken["status"], broken["module"]) == (None, "did not load", "broken_plugin")
    assert broken["problem"] == "RuntimeError: bad start"
    assert broken["traceback"][-1] == "RuntimeError: bad start"
    assert any("in begin" in line for line in broken["traceback"])


async def test_plugins_say_who_is_not_allowed_and_who_is_not_there(shell: CommandLine):
    shell.install("other", "there_is_no_such_module")
    shell.environment["KEXPORT_PLUGINS"] = "Kexport_Probe, other"
    code, out, err = await shell.run("plugins")
    assert (code, err) == (0, "")
    rows = [line.split(maxsplit=5) for line in out.splitlines()]
    assert ["probe", "kexport-probe", "1.0", "1", "tests.probe_sinks", "ok"] in rows
    left_out = ["(other)", "kexport-other", "1.0", "-", "there_is_no_such_module"]
    assert [*left_out, "not allowed (KEXPORT_PLUGINS)"] in rows
    assert ["(other)", "other", "-", "-", "-", "not installed"] in rows
    assert "did you mean kexport-other?" in " ".join(out.split())
    code, _, err = await shell.run("plugins", "--settings", "file")
    assert code == 2
    assert err == (
        "kexport: sink type 'file' cannot be shown: its plugin kexport-file is installed but not allowed:"
        " add it to KEXPORT_PLUGINS\n"
    )


async def test_the_settings_of_a_sink_type(shell: CommandLine):
    code, out, err = await shell.run("plugins", "--settings", "probe")
    assert (code, err) == (0, "")
    rows = {line.split("   ")[0].strip(): " ".join(line.split()) for line in out.splitlines()}
    assert rows["path"] == "path string (required) File to append events to."
    assert rows["level"] == "level integer 0 A number with bounds."
    assert rows["topics"] == "topics array of string [] A list of strings."
    assert rows["mode"].endswith(' "well" What goes wrong.')
    assert rows["batch.max_events"] == "batch.max_events integer 1000 Most events in one write."
    assert rows["rejects_to"].startswith('rejects_to string ""')
    assert out in (await shell.run("plugins", "-v")).out


async def test_plugins_for_programs(shell: CommandLine):
    found = json.loads((await shell.run("plugins", "-o", "json")).out)
    (probe,) = [each for each in found if each["type"] == "probe"]
    assert (probe["distribution"], probe["version"], probe["problem"]) == ("kexport-probe", "1.0", "")
    assert (probe["plugin"], probe["api"], probe["module"]) == ("probe", "1", "tests.probe_sinks")
    assert (probe["status"], probe["traceback"]) == ("ok", [])
    one = json.loads((await shell.run("plugins", "--settings", "probe", "-o", "json")).out)
    assert one == probe["settings"]


async def test_settings_of_an_unknown_type(shell: CommandLine):
    code, out, err = await shell.run("plugins", "--settings", "prob")
    assert (code, out) == (2, "")
    assert err.startswith("kexport: no sink type 'prob' is installed, did you mean 'probe'?; installed: ")


async def test_schema_prints_what_the_installed_sinks_make_of_it(shell: CommandLine):
    shell.install("broken", "there_is_no_such_module")
    code, out, err = await shell.run("schema")
    assert code == 0
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "probe_sink" in schema["$defs"]
    assert "kexport: plugin broken could not be loaded, its sinks are left out: ModuleNotFoundError" in err
