"""The receivers of kubernetes-event-exporter -> [sinks.NAME] tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from kexport.draft import Draft, Table
from kexport.foreign import Value
from kexport.standin import add_headers, add_secret, add_tls, stand_in

_TLS = ("insecureSkipVerify", "serverName", "caFile", "keyFile", "certFile")
_SEARCH = (
    "hosts", "username", "password", "useEventID", "deDot", "index", "indexFormat", "type", "tls", "layout",
)  # fmt: skip
_KEYS: dict[str, tuple[str, ...]] = {
    "inMemory": (),
    "webhook": ("endpoint", "tls", "layout", "headers", "streamName"),
    "file": ("path", "layout", "maxsize", "maxage", "maxbackups", "deDot"),
    "syslog": ("network", "address", "tag"),
    "stdout": ("deDot", "layout"),
    "elasticsearch": (*_SEARCH, "cloudID", "apiKey", "headers"),
    "kinesis": ("streamName", "region", "layout"),
    "firehose": ("deliveryStreamName", "region", "layout", "deDot"),
    "opensearch": _SEARCH,
    "opsgenie": ("apiKey", "URL", "priority", "message", "alias", "description", "tags", "details"),
    "loki": ("layout", "streamLabels", "tls", "url", "headers"),
    "sqs": ("queueName", "region", "layout"),
    "sns": ("topicARN", "region", "layout"),
    "slack": ("token", "channel", "message", "color", "footer", "title", "author_name", "fields"),
    "kafka": (
        "topic", "brokers", "layout", "clientId", "compressionCodec", "version", "tls", "sasl", "avro",
    ),
    "pubsub": ("gcloud_project_id", "topic", "create_topic"),
    "opscenter": (
        "category", "description", "notifications", "operationalData", "priority", "region",
        "relatedOpsItems", "severity", "source", "tags", "title",
    ),
    "teams": ("endpoint", "layout", "headers"),
    "bigquery": (
        "location", "project", "dataset", "table", "credentials_path", "batch_size", "max_retries",
        "interval_seconds", "timeout_seconds",
    ),
    "eventbridge": ("detailType", "details", "source", "eventBusName", "region"),
    "pipe": ("path", "deDot", "layout"),
}  # fmt: skip
_COLLECTOR = "an otlp sink to an OpenTelemetry Collector, which has an exporter for it"
_INSTEAD = {
    "elasticsearch": f"{_COLLECTOR}; or a kafka sink and a connector",
    "opensearch": f"{_COLLECTOR}; or a kafka sink and a connector",
    "kinesis": _COLLECTOR,
    "firehose": "an s3 sink, if what it fills is a bucket",
    "syslog": _COLLECTOR,
    "pubsub": _COLLECTOR,
    "bigquery": 'an s3 sink with url = "gs://…" and format = "jsonl.gz", which BigQuery loads',
    "opsgenie": "a webhook sink to what turns CloudEvents into alerts",
    "teams": "a webhook sink to what turns CloudEvents into messages",
    "pipe": 'a file sink with path = "-" and a shell\'s pipe',
}
# A template's field -> where the CloudEvent has it.
_OF_TEMPLATES = {
    "ClusterName": "the attribute cluster",
    "Namespace": "the attribute objnamespace",
    "Name": "the attribute objname",
    "UID": "the attribute partitionkey",
    "GetTimestampMs": "data.object.firstTimestamp, or else eventTime",
    "GetTimestampISO8601": "data.object.firstTimestamp, or else eventTime",
    "InvolvedObject.Labels": "nowhere: the object that the Event is about is not looked up",
    "InvolvedObject.Annotations": "nowhere: the object that the Event is about is not looked up",
    "InvolvedObject.OwnerReferences": "nowhere: the object that the Event is about is not looked up",
    "InvolvedObject.Deleted": "nowhere: the object that the Event is about is not looked up",
    "InvolvedObject.UID": "data.object.involvedObject.uid",
    "InvolvedObject.APIVersion": "data.object.involvedObject.apiVersion",
}
_ACTION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_FIELD = re.compile(r"(?<![\w)\]])\.((?:[A-Z]\w*)(?:\.[A-Z]\w*)*)?")
_WHY = {
    "deDot": "names stay as the API server has them; whoever stores them replaces the dots",
    "avro": "not built: records are CloudEvents as JSON",
    "version": "not needed: the client asks the brokers",
    "insecureSkipVerify": "not taken over: name the authority in ca_file",
    "serverName": "no twin: the certificate must be of the host in the address",
}


def add_sink(name: str, receiver: Value, draft: Draft) -> None:
    """The table of one receiver, with a note on each of its keys that has no twin."""
    kinds = receiver.table(("name", *_KEYS))
    given = [kind for kind in kinds if kind != "name"]
    if len(given) != 1:
        one_of = ", ".join(_KEYS)
        raise receiver.error(
            f"needs one kind of receiver beside its name, has {len(given)}; one of: {one_of}"
        )
    kind = given[0]
    settings = kinds[kind]
    if settings.kind == "empty":
        settings.use()
    else:
        settings.table(_KEYS[kind])
    table = draft.sink(name)
    make = _MAKERS.get(kind)
    if make:
        make(table, settings, name)
    else:
        instead = _INSTEAD.get(kind, "a plugin of your own (kexport new-plugin)")
        stand_in(table, settings, name, kind, instead)
        _say_templates(table, settings)
        if any(settings.unused()):
            table.note(settings, "left out with it")
        return
    _say_templates(table, settings)
    for value in (left for member in settings.members.values() for left in member.unused()):
        why = _WHY.get(value.name, "has no twin in this sink; kexport plugins --settings shows what it has")
        table.note(value, why)


def _file(table: Table, settings: Value, _name: str) -> None:
    table.set("type", "file")
    path = settings.get("path")
    if path is None:
        raise settings.error("needs a path")
    table.set("path", path.text())
    megabytes = settings.get("maxsize")
    table.set("rotate_bytes", int((megabytes.number() if megabytes else 100) * 1024 * 1024))
    if backups := settings.get("maxbackups"):
        table.set("keep_files", int(backups.number()))
    if (age := settings.get("maxage")) and age.number():
        table.note(age, "rotated files are not deleted by age; keep_files says how many stay")


def _stdout(table: Table, _settings: Value, _name: str) -> None:
    table.set("type", "file")
    table.set("path", "-")


def _webhook(table: Table, settings: Value, name: str) -> None:
    endpoint = settings.get("endpoint")
    if endpoint is None:
        raise settings.error("needs an endpoint")
    table.say("The plugin is plugins/examples/kexport-webhook; the endpoint gets CloudEvents.")
    table.set("type", "webhook")
    table.set("url", endpoint.text())
    add_headers(table, settings.get("headers"), name)
    if tls := settings.get("tls"):
        tls.table(_TLS)
        add_tls(table, tls, ca="caFile", cert="certFile", key="keyFile")


def _slack(table: Table, settings: Value, name: str) -> None:
    variable = f"{_variable(name)}_WEBHOOK_URL"
    table.say("The plugin is plugins/examples/kexport-slack, which says in its own words what changed.")
    table.set("type", "slack")
    table.set("webhook_url", f"${{{variable}}}")
    if token := settings.get("token"):
        table.note(token, f"an incoming webhook is used instead: make one, put its URL into {variable}")
    if channel := settings.get("channel"):
        table.note(channel, "an incoming webhook belongs to one channel, which Slack asks for; a channel for"
                   " each object's owner is not built")  # fmt: skip


def _loki(table: Table, settings: Value, name: str) -> None:
    address = settings.get("url")
    if address is None:
        raise settings.error("needs a url")
    parts = urlsplit(address.text())
    table.note(address, "Loki 3 takes OTLP at /otlp/v1/logs of the same server, with structured metadata on")
    table.set("type", "otlp")
    table.set("endpoint", f"{parts.scheme}://{parts.netloc}/otlp/v1/logs")
    if labels := settings.get("streamLabels"):
        table.note(labels, "Loki makes its labels of resource attributes (its own otlp_config); the others of"
                   " each event become structured metadata")  # fmt: skip
    add_headers(table, settings.get("headers"), name)
    if tls := settings.get("tls"):
        tls.table(_TLS)
        add_tls(table, tls, ca="caFile", cert="certFile", key="keyFile")


def _kafka(table: Table, settings: Value, name: str) -> None:
    table.set("type", "kafka")
    for key, setting in (("brokers", "bootstrap_servers"), ("topic", "topic")):
        value = settings.get(key)
        if value is None:
            raise settings.error(f"needs {key}")
        table.set(setting, value.texts() if key == "brokers" else value.text())
    codec = settings.get("compressionCodec")
    table.set("compression", codec.text() if codec else "none")
    if client := settings.get("clientId"):
        table.set("properties", {"client.id": client.text()})
    _kafka_tls(table, settings.get("tls"))
    _kafka_sasl(table, settings.get("sasl"), name)


def _kafka_tls(table: Table, tls: Value | None) -> None:
    if tls is None:
        return
    tls.table(("enable", "caFile", "certFile", "keyFile", "insecureSkipVerify"))
    enable = tls.get("enable")
    if enable is None or not enable.flag():
        table.note(tls, "switched off there, and so left out")
        return
    table.set("tls", True)
    add_tls(table, tls, ca="caFile", cert="certFile", key="keyFile")


def _kafka_sasl(table: Table, sasl: Value | None, name: str) -> None:
    if sasl is None:
        return
    sasl.table(("enable", "username", "password", "mechanism"))
    enable = sasl.get("enable")
    if enable is None or not enable.flag():
        table.note(sasl, "switched off there, and so left out")
        return
    if username := sasl.get("username"):
        table.set("username", username.text())
    if password := sasl.get("password"):
        table.set("password", add_secret(table, password, f"{_variable(name)}_PASSWORD"))
    known = {"": "PLAIN", "plain": "PLAIN", "sha256": "SCRAM-SHA-256", "sha512": "SCRAM-SHA-512"}
    mechanism = sasl.get("mechanism")
    wanted = mechanism.text() if mechanism else ""
    if mechanism and wanted not in known:
        raise mechanism.error(f"unknown mechanism {wanted!r}; one of: plain, sha256, sha512")
    table.set("sasl_mechanism", known[wanted])


_MAKERS: dict[str, Callable[[Table, Value, str], None]] = {
    "file": _file,
    "stdout": _stdout,
    "webhook": _webhook,
    "slack": _slack,
    "loki": _loki,
    "kafka": _kafka,
}


def _variable(name: str) -> str:
    return re.sub(r"\W+", "_", name, flags=re.ASCII).upper().strip("_") or "SINK"


# -- templates ----------------------------------------------------------------------------------------------


def _say_templates(table: Table, settings: Value) -> None:
    """Payload templates are not wanted here: a note for each, on where its fields are in the CloudEvent."""
    for value in settings.unused():
        for leaf in value.leaves():
            text = leaf.text_or_none or ""
            if "{{" in text:
                table.note(leaf, f"no templates: every sink gets the whole CloudEvent; {fields_of(text)}")
            elif ".layout." in f"{leaf.place}.":
                table.note(leaf, f"no templates: the constant {text!r} is not added")


def fields_of(template: str) -> str:
    """Where the fields of a Go template are in the CloudEvent."""
    found = [name for action in _ACTION.findall(template) for name in _FIELD.findall(action)]
    said = [_field_of(name) for name in dict.fromkeys(found)]
    return "; ".join(said) or "it names no field of the Event"


def _field_of(name: str) -> str:
    if not name:
        return "the Event as a whole is data.object"
    for known, place in _OF_TEMPLATES.items():
        if name == known or name.startswith(f"{known}."):
            return f".{name} is {place}"
    path = ".".join(word[:1].lower() + word[1:] for word in name.split("."))
    return f".{name} is data.object.{path}"
