"""The commands that write something down before anything runs: plugins, permissions, schemas, drafts."""

# ruff: noqa: PLC0415  (each command imports what it needs, and no more)
from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

from kexport.startup import cluster_of, load
from kexport.terminal import plain


def _plugins(arguments: argparse.Namespace) -> None:
    from kexport import describe, plugins

    found, style = plugins.load(), arguments.output or "table"
    if arguments.settings:
        print(describe.settings_of(found, arguments.settings, style=style))
    else:
        print(describe.plugins(found, style=style, verbose=arguments.verbose))


def _new_plugin(arguments: argparse.Namespace) -> None:
    import shlex

    from kexport import plugins, scaffold

    made = scaffold.make(arguments.name, arguments.directory.expanduser(), plugins.load())
    print(
        f"made {made}: a sink that appends events to a file; the places to edit are marked EDIT\n\n"
        f"next steps:\n  cd {shlex.quote(str(made))}\n  pip install -e '.[test]'\n  pytest\n  kexport plugins"
    )


def _migrate(arguments: argparse.Namespace) -> None:
    from kexport import migration

    draft = migration.migrate(arguments.origin, arguments.file)
    text = migration.render(draft, arguments.origin, arguments.file)
    if arguments.output:
        migration.write(text, arguments.output)
        print(f"made {arguments.output}; notes on what has no twin: {draft.notes}")
    else:
        print(text, end="")


def _schema(arguments: argparse.Namespace) -> None:
    import json

    from kexport import eventschema, plugins, schema

    if arguments.event:
        print(eventschema.text(), end="")
        return
    found = plugins.load()
    for name, problem in found.problems.items():
        text = plain(f"plugin {name} could not be loaded, its sinks are left out: {problem}")
        print(f"kexport: {text}", file=sys.stderr)
    print(json.dumps(schema.document(found.types.values()), indent=2, ensure_ascii=False))


def _rbac(arguments: argparse.Namespace) -> None:
    import yaml

    from kexport import describe, plan, rbac

    root = load(arguments, level="WARNING").root
    if arguments.offline:
        catalogue = rbac.assume(root.resources)
    else:
        catalogue = asyncio.run(describe.ask(cluster_of(arguments, root.cluster))).catalogue
    grantee = rbac.Grantee(arguments.name, arguments.namespace, arguments.service_account or arguments.name)
    streams = plan.streams(root.resources, catalogue)
    manifests = rbac.manifests(streams, grantee, identity=not root.cluster.name)
    print(yaml.safe_dump_all(manifests, sort_keys=False, explicit_start=True), end="")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "migrate": _migrate,
    "new-plugin": _new_plugin,
    "plugins": _plugins,
    "rbac": _rbac,
    "schema": _schema,
}
