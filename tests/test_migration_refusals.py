"""`kexport migrate` refuses what it can't read, and says in which line."""

from __future__ import annotations

import pytest

from kexport.errors import ConfigError
from tests.migrating import KEE, OTEL, translated, tree

WHOLE = "receivers: {k8sobjects: {objects: [{name: pods}]}}\n"


@pytest.mark.parametrize(
    ("origin", "text", "problem"),
    [
        (KEE, "", "is empty"),
        (KEE, "[1, 2]", "line 1: expected a table, got a list"),
        (
            KEE,
            "logLevle: debug\n",
            "line 1: logLevle: unknown key, did you mean 'logLevel'?; known: logLevel, ",
        ),
        (KEE, "a: 1\na: 2\n", "line 2: a: stands here a second time"),
        (
            KEE,
            "route:\n  match: {receiver: a}\nreceivers: [{name: a, stdout: {}}]",
            "line 2: route.match: expected",
        ),
        (KEE, "receivers:\n- name: a\n  stdout: {}\n", "route: there is none, so no receiver gets anything"),
        (KEE, "receivers:\n- stdout: {}\n", "line 2: receivers[0]: needs a name"),
        (
            KEE,
            "receivers:\n- name: a\n  stdout: {}\n- name: a\n  pipe: {}\n",
            "line 4: receivers[1].name: a second",
        ),
        (
            KEE,
            tree("match: [{receiver: a}]", receivers="receivers:\n- name: a\n"),
            "line 4: receivers[0]: needs one kind of receiver beside its name, has 0",
        ),
        (
            KEE,
            tree("match: [{receiver: a}]", receivers="receivers:\n- name: a\n  kafak: {}\n"),
            "line 5: receivers[0].kafak: unknown key, did you mean 'kafka'?",
        ),
        (KEE, "receivers: []\n", "receivers: there is none"),
        (
            KEE,
            tree("match: [{reciever: a}]"),
            "line 2: route.match[0].reciever: unknown key, did you mean 'receiver'",
        ),
        (KEE, tree("match: [{kind: Pod}]"), "line 1: route: no match rule that can match names a receiver"),
        (
            KEE,
            tree("match: [{receiver: a, minCount: many}]"),
            "line 2: route.match[0].minCount: expected a number",
        ),
        (KEE, "a: {{ .Reason }} x\n", "line 1, column "),
        (KEE, "a: {{ .b }}\n", "put a value that begins with {{ in quotes"),
        (KEE, "a: &x [*x]\n", "line 1: a[0]: an alias leads back into itself"),
        (KEE, "a: *nobody\n", "line 1, column 4: is not valid YAML: found undefined alias"),
        (KEE, "a: 1\n--- \nb: 2\n", "is not valid YAML: but found another document"),
        (
            KEE,
            "apiVersion: v1\nkind: ConfigMap\ndata: {}\n",
            "line 1: is a manifest (ConfigMap): give the configuration",
        ),
        (KEE, "? [a]\n: b\n", "line 1: a key must be a text"),
        (OTEL, "exporters: {}\n", "has no receiver k8sobjects or k8s_events"),
        (OTEL, "k8sobjects: {objects: []}\n", "line 1: k8sobjects: objects: there is none"),
        (OTEL, "objects:\n- name: pods\n  mode: look\n", "line 3: objects[0].mode: unknown mode 'look'"),
        (OTEL, "objects:\n- mode: watch\n", "line 2: objects[0]: needs a name"),
        (OTEL, "objects:\n- name: pods\n  namespace: a\n", "unknown key, did you mean 'namespaces'?"),
        (OTEL, "objects:\n- {name: pods, exclude_watch_type: [ADD]}\n", "unknown watch type 'ADD'"),
        (
            OTEL,
            "objects:\n- {name: 'pods${env:A:-x}'}\n",
            "line 2: objects[0].name: ${env:A:-x} has a default",
        ),
        (OTEL, "objects:\n- {name: '${yaml:a}'}\n", "has a ${…} other than env and file"),
        (
            OTEL,
            "receivers: {k8sobjects: {objects: [{name: pods}]}}\nexporters: {file: {}}\n",
            "exporters.file: needs path",
        ),
        (
            OTEL,
            "receivers: {k8sobjects: {objects: [{name: pods}]}}\nexporters: {}\n",
            "exporters: there is none",
        ),
        (
            OTEL,
            "receivers: {k8sobjects: {objects: [{name: pods}]}}\nservices: {}\n",
            "did you mean 'service'?",
        ),
        (
            OTEL,
            "objects: [{name: pods}]\nreceivers: {}\n",
            "line 2: receivers: unknown key",
        ),
        (
            OTEL,
            WHOLE + "exporters: {debug: {}, kafka: {retry_on_failure: {max_interval: soon}}}\n",
            "exporters.kafka.retry_on_failure.max_interval: expected a duration such as 1m30s, got 'soon'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(origin: str, text: str, problem: str):
    with pytest.raises(ConfigError) as error:
        translated(origin, text)
    assert problem in str(error.value)


def test_aliases_that_would_never_end_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        translated(KEE, "\n".join(lines))


def test_what_is_nested_without_end_is_refused():
    with pytest.raises(ConfigError, match="is nested too deep"):
        translated(KEE, "a: " + "[" * 20_000)
