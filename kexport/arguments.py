"""What `kexport` can be told on the command line, and the help that teaches it. Only the standard library."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import re
from pathlib import Path
from typing import NoReturn, TypeAlias

from typing_extensions import override

from kexport import __version__

# argparse has no public name for what add_subparsers returns.
_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001
_EXAMPLES = {
    "run": "  kexport run -c config.toml\n  kexport --log-format json run",
    "check": "  kexport check -c config.toml\n  kexport check -o json | jq .exit_code\n"
    "  kexport check --explain pods/shop/web-1\n"
    "  kubectl get deploy web -o json | kexport check --explain - --change deleted",
    "status": "  kexport status -c config.toml\n  kexport status -o json | jq .sinks",
    "journal": "  kexport journal ls\n  kexport journal cat --events 17-42 | jq .subject\n"
    "  kexport journal verify",
    "top": "  kexport top -c config.toml\n  kexport top | cat    (one picture)",
    "snapshot": "  kexport snapshot pods\n  kexport snapshot deployments.apps -n shop --no-wait",
    "replay": "  kexport replay --sink audit --since 2h\n  kexport replay --sink audit --from 4711 --oldest",
    "sinks": "  kexport sinks ls\n  kexport sinks retry audit\n  kexport sinks skip audit 4711\n"
    "  kexport sinks park audit 4711 --to rejects",
    "resources": "  kexport resources --context staging\n  kexport resources -o name | grep cert-manager",
    "plugins": "  kexport plugins\n  kexport plugins --settings file",
    "new-plugin": "  kexport new-plugin audit-trail\n  kexport new-plugin audit-trail --directory ~/src",
    "schema": "  kexport schema > config.schema.json",
    "migrate": "  kexport migrate kubernetes-event-exporter config.yaml > config.toml\n"
    "  kexport migrate k8sobjects otelcol.yaml -o config.toml",
    "rbac": "  kexport rbac -c config.toml --namespace kexport | kubectl apply -f -\n"
    "  kexport rbac --offline -c config.toml    (names in full, no cluster asked)",
    "tail": "  kexport tail pods deployments.apps -n shop\n  kexport tail deploy -l team=web --since-now\n"
    "  kexport tail deployments.apps -n shop --diff\n"
    "  kexport tail events -o json | jq -r .data.object.message",
    "demo": "  kexport demo",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EPILOG = """\
first steps:
  kexport tail pods                     look at live changes; needs no configuration
  kexport check -c config.toml          is everything there that this configuration needs?
  kexport rbac -c config.toml           the permissions that it needs
  kexport run -c config.toml            export

exit codes:
  0  done, or stopped as asked
  1  failed, and may pass by itself: the cluster or a sink is unreachable, the journal is in use
  2  the configuration (or the command line) must be changed"""


class _Parser(argparse.ArgumentParser):
    """Says what was meant, where argparse only says what it did not understand."""

    @override
    def error(self, message: str) -> NoReturn:
        word = re.match(
            r"argument (?:command|what|origin): invalid choice: '([^']*)' \(choose from (.*)\)", message
        )
        if word:
            close = difflib.get_close_matches(word[1], word[2].replace("'", "").split(", "), n=1)
            message += f"; did you mean {close[0]!r}?" if close else ""
        elif message.startswith("unrecognized arguments: ") and message.endswith(".toml"):
            message += "; the configuration is named with -c"
        elif message == "the following arguments are required: command":
            message += "; kexport --help lists them"
        super().error(message)


def parser() -> argparse.ArgumentParser:
    """Knows every command; `command` in what it parses is the name of the one that was given."""
    main = _Parser(
        prog="kexport",
        description="Streams Kubernetes changes as CloudEvents into pluggable sinks, and loses none of them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main.add_argument("--version", action="version", version=f"kexport {__version__}")
    _add_log_options(main, silent=False)
    commands = main.add_subparsers(dest="command", metavar="command", required=True)
    _add_export_commands(commands)
    _add_operator_commands(commands)
    _add_look_commands(commands)
    _add_beginner_commands(commands)
    _add(commands, "demo", "export a made-up cluster, and see that nothing is lost")
    return main


def _add_export_commands(commands: _Commands) -> None:
    run = _add(commands, "run", "export until stopped (SIGTERM or Ctrl-C; twice: at once)")
    _add_config(run)
    check = _add(commands, "check", "check a configuration against the cluster and the sinks")
    _add_config(check)
    check.add_argument("-o", "--output", choices=["json"], help="a report for programs")
    check.add_argument(
        "--timeout", type=_seconds, default=15.0, metavar="SECONDS", help="longest wait for one answer (15)"
    )
    check.add_argument(
        "--explain",
        metavar="OBJECT",
        help="instead: what becomes of an object (FILE.json, FILE.yaml, -, RESOURCE/NAMESPACE/NAME)",
    )
    only = check.add_argument_group("with --explain, the object is taken as part of an event")
    only.add_argument(
        "--change", choices=["added", "modified", "deleted", "left"], default="modified", help="(modified)"
    )
    only.add_argument(
        "--origin", choices=["watch", "snapshot", "recovered", "resync"], default="watch", help="(watch)"
    )
    status = _add(commands, "status", "show streams, sinks and journal of the process that runs, or ran")
    _add_config(status)
    status.add_argument("-o", "--output", choices=["json"], help="as /status.json, with `running`")
    journal = _add(commands, "journal", "look into the journal, while kexport runs or not; changes nothing")
    journal.add_argument("what", choices=["ls", "cat", "verify"], help="list chunks, print events, check all")
    _add_config(journal)
    journal.add_argument("--events", default="", metavar="N-M", help="cat: only events of these numbers")
    journal.add_argument("--resource", default="", help="cat: only this resource, as deployments.apps")
    rbac = _add(commands, "rbac", "print the least permissions that a configuration needs")
    _add_config(rbac)
    _add_cluster(rbac)
    rbac.add_argument("--offline", action="store_true", help="ask no cluster; take full names as they are")
    rbac.add_argument("--name", default="kexport", help="of the roles and bindings (kexport)")
    rbac.add_argument("--namespace", "-n", default="default", help="where the service account is (default)")
    rbac.add_argument("--service-account", default="", metavar="NAME", help="who is granted (as --name)")


def _add_operator_commands(commands: _Commands) -> None:
    """They ask the process that runs, over the control socket beside its journal."""
    _add_config(_add(commands, "top", "watch a running exporter on the terminal; q quits, p pauses"))
    snapshot = _add(commands, "snapshot", "tell all objects of a resource once more, without losing a change")
    _add_config(snapshot)
    snapshot.add_argument("resource", metavar="RESOURCE", help="as kubectl takes it: pods, deploy, *.apps")
    snapshot.add_argument("-n", "--namespace", help="only the streams that follow just this one")
    snapshot.add_argument("--no-wait", action="store_true", help="do not wait until all is told")
    replay = _add(
        commands, "replay", "repeat what the journal still has to one sink, the same bytes in order"
    )
    _add_config(replay)
    replay.add_argument("--sink", required=True, metavar="NAME", help="of a [sinks.NAME] table")
    begin = replay.add_mutually_exclusive_group()
    begin.add_argument("--since", type=_duration, metavar="AGE", help="what is not older: 90s, 30m, 2h, 1d")
    begin.add_argument(
        "--from", type=_position, default=0, dest="sequence", metavar="SEQ",
        help="from this event on, as `kexport journal ls` counts them",
    )  # fmt: skip
    replay.add_argument(
        "--oldest", action="store_true", help="where the journal does not reach so far: what there is"
    )
    sinks = _add(commands, "sinks", "list the sinks, and help one that is stuck")
    sinks.add_argument(
        "what", choices=["ls", "retry", "skip", "park"],
        help="list; try again now; give up the event it is held at; or store that elsewhere first",
    )  # fmt: skip
    _add_config(sinks)
    sinks.add_argument("name", nargs="?", default="", metavar="NAME", help="of a [sinks.NAME] table")
    sinks.add_argument("event", nargs="?", default="", metavar="EVENT", help="skip, park: its id or position")
    sinks.add_argument("--count", type=_position, default=1, metavar="N", help="and those behind it (1)")
    sinks.add_argument("--to", default="", metavar="SINK", help="park: with this sink, not in parked.jsonl")
    sinks.add_argument("-o", "--output", choices=["json"], help="ls: as in /status.json")


def _duration(text: str) -> float:
    """Seconds; `2h`, `1h30m`."""
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 90s, 30m, 2h or 1d")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def _position(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 62):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _add_look_commands(commands: _Commands) -> None:
    tail = _add(commands, "tail", "show live changes on the terminal, without a configuration")
    tail.set_defaults(config=None)
    tail.add_argument(
        "resources", nargs="+", metavar="RESOURCE", help="as kubectl takes it: pods, deploy, *.apps"
    )
    where = tail.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", action="append", help="name or pattern; may be repeated")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="which is the default")
    tail.add_argument("-l", "--selector", default="", help="label selector, applied by the server")
    tail.add_argument("--field-selector", default="", help="field selector, applied by the server")
    tail.add_argument(
        "--since-now", "--no-snapshot", action="store_true", help="only changes, not what there is already"
    )
    tail.add_argument("--diff", action="store_true", help="show what changed in each object, and who did it")
    tail.add_argument("-o", "--output", choices=["line", "json"], help="json: whole CloudEvents, one a line")
    tail.add_argument("--no-color", action="store_true", help="as does the variable NO_COLOR")
    _add_cluster(tail)
    resources = _add(commands, "resources", "list what the cluster serves, and what can be watched")
    _add_config(resources, default=None)
    _add_cluster(resources)
    resources.add_argument("-o", "--output", choices=["json", "name"])
    plugins = _add(commands, "plugins", "list the installed sink types and their settings")
    plugins.add_argument("-v", "--verbose", action="store_true", help="with the settings of each")
    plugins.add_argument("--settings", metavar="TYPE", help="only the settings of this sink type")
    plugins.add_argument("-o", "--output", choices=["json"])


def _add_beginner_commands(commands: _Commands) -> None:
    """They make what somebody begins with: a plugin, a configuration, the schema for an editor."""
    new = _add(commands, "new-plugin", "write a new sink plugin that works, to be edited")
    new.add_argument("name", metavar="NAME", help='for type = "NAME", and the distribution kexport-NAME')
    new.add_argument(
        "--directory", type=Path, default=Path(), metavar="DIR", help="where kexport-NAME is made (.)"
    )
    migrate = _add(commands, "migrate", "write another exporter's configuration as config.toml")
    migrate.add_argument(
        "origin",
        choices=["kubernetes-event-exporter", "k8sobjects"],
        help="k8sobjects: the Collector's receiver",
    )
    migrate.add_argument(
        "file", type=Path, metavar="FILE", help="its configuration, as YAML; -: standard input"
    )
    migrate.add_argument("-o", "--output", type=Path, metavar="FILE", help="a new file, instead of printing")
    schema = _add(commands, "schema", "print the JSON Schema of config.toml, sinks included")
    schema.add_argument("--event", action="store_true", help="print that of an event instead")


def _add(
    commands: _Commands,
    name: str,
    summary: str,
) -> _Parser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{_EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_log_options(parser, silent=True)
    return parser


def _add_log_options(parser: argparse.ArgumentParser, *, silent: bool) -> None:
    """They may stand before and after the command; there (`silent`) a default would undo what came before."""
    logs = parser.add_argument_group("logs (on standard error)")
    levels = ["debug", "info", "warning", "error"]
    logs.add_argument(
        "--log-format", choices=["text", "json"], default=argparse.SUPPRESS if silent else "text"
    )
    logs.add_argument("--log-level", choices=levels, default=argparse.SUPPRESS if silent else None)


def _add_config(parser: argparse.ArgumentParser, default: Path | None = Path("config.toml")) -> None:
    shown = f" ({default})" if default else ", for its [cluster]"
    parser.add_argument(
        "-c", "--config", type=Path, default=default, metavar="FILE", help=f"configuration{shown}"
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cluster (default: in-cluster, $KUBECONFIG, ~/.kube/config)")
    group.add_argument("--kubeconfig", default="", metavar="FILE")
    group.add_argument("--context", default="", metavar="NAME", help="of the kubeconfig")
    group.add_argument("--url", default="", help="without credentials, such as kubectl proxy's")
