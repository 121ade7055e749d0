"""Exporters of the OpenTelemetry Collector -> [sinks.NAME] tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from kexport.draft import Draft, Table
from kexport.foreign import Value
from kexport.standin import add_headers, add_secret, add_tls, stand_in

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NEVER = "kexport never gives an event up: it tries again until it is taken"
_WHY = {
    "sending_queue": "not needed: what waits is in the journal",
    "max_elapsed_time": _NEVER,
    "enabled": _NEVER,
    "multiplier": "each wait is twice the one before",
    "randomization_factor": "waits are jittered",
    "encoding": "not chosen: an event is a CloudEvent as JSON",
    "format": "not chosen: an event is a CloudEvent as JSON, one a line",
    "marshaler": "not chosen: an event is a CloudEvent as JSON, one a line",
    "required_acks": "always all in-sync replicas",
    "protocol_version": "not needed: the client asks the brokers",
    "partition_logs_by_resource_attributes": "records are keyed by the object's uid, always",
    "partition_logs_by_trace_id": "records are keyed by the object's uid, always",
    "insecure_skip_verify": "not taken over: name the authority in ca_file",
    "server_name_override": "no twin: the certificate must be of the host in the address",
    "max_days": "rotated files are not deleted by age; keep_files says how many stay",
    "flush_interval": "not needed: every write is on the disk before it counts",
    "append": "always",
    "role_arn": "roles come from the environment (IRSA, pod identity) or from profile",
}
_BY_OTLP = (
    "an otlp sink to the Collector, which keeps this exporter in a pipeline that begins with an otlp receiver"
)


def add_sink(name: str, exporter: Value, draft: Draft) -> None:
    """The table of one exporter, with a note on each of its keys that has no twin."""
    kind = name.partition("/")[0].strip()
    table = draft.sink(name)
    make = _MAKERS.get(kind)
    if make is None:
        stand_in(table, exporter, name, kind, _BY_OTLP)
        if any(exporter.unused()):
            table.note(exporter, "left out with it")
        return
    if exporter.kind == "empty":
        exporter.use()
    make(table, exporter, name)
    if exporter.kind == "empty":
        return
    _add_retry(table, exporter)
    for value in (left for member in exporter.members.values() for left in member.unused()):
        why = _WHY.get(value.name, "has no twin in this sink; kexport plugins --settings shows what it has")
        table.note(value, why)


def seconds(value: Value) -> float:
    """Go's way to write a duration: 1m30s, 250ms."""
    text = value.text()
    if not re.fullmatch(f"(?:{_DURATION.pattern})+|0", text):
        raise value.error(f"expected a duration such as 1m30s, got {text!r}")
    return round(sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text)), 9)


def _add_retry(table: Table, exporter: Value) -> None:
    waits: dict[str, str | bool | int | float] = {}
    for key, setting in (("initial_interval", "min_seconds"), ("max_interval", "max_seconds")):
        if (value := exporter.get("retry_on_failure", key)) and (wait := seconds(value)):
            waits[setting] = wait
    if waits:
        table.set("retry", waits)
    if (value := exporter.get("timeout")) and (limit := seconds(value)):
        table.set("timeout_seconds", max(limit, 1.0))


def _needed(exporter: Value, *path: str) -> Value:
    value = exporter.get(*path) if exporter.kind == "table" else None
    if value is None:
        raise exporter.error(f"needs {'.'.join(path)}")
    return value


def _file(table: Table, exporter: Value, _name: str) -> None:
    table.set("type", "file")
    table.set("path", _needed(exporter, "path").text())
    if exporter.get("rotation"):
        megabytes = exporter.get("rotation", "max_megabytes")
        table.set("rotate_bytes", int((megabytes.number() if megabytes else 100) * 1024 * 1024))
        backups = exporter.get("rotation", "max_backups")
        table.set("keep_files", int(backups.number()) if backups else 100)
    if value := exporter.get("compression"):
        _choose(table, value, "compress", {"zstd": "zstd", "none": "none", "": "none"})
        table.remark(value, "rotated files are compressed, the newest one is not")


def _choose(table: Table, value: Value, setting: str, known: dict[str, str]) -> None:
    wanted = value.text()
    if wanted in known:
        table.set(setting, known[wanted])
    else:
        table.note(value, f"{wanted!r} is not to be had: the default of {setting} applies")


def _debug(table: Table, _exporter: Value, _name: str) -> None:
    table.set("type", "file")
    table.set("path", "-")


def _kafka(table: Table, exporter: Value, name: str) -> None:
    if exporter.kind == "empty":
        raise exporter.error("needs brokers")
    table.set("type", "kafka")
    brokers = exporter.get("brokers")
    table.set("bootstrap_servers", _brokers(brokers) if brokers else ["localhost:9092"])
    topic = exporter.get("logs", "topic") or exporter.get("topic")
    table.set("topic", topic.text() if topic else "otlp_logs")
    if value := exporter.get("producer", "compression"):
        known = {each: each for each in ("none", "gzip", "snappy", "lz4", "zstd")}
        _choose(table, value, "compression", known)
    if client := exporter.get("client_id"):
        table.set("properties", {"client.id": client.text()})
    sasl = exporter.get("auth", "sasl")
    if sasl:
        table.set("username", _needed(sasl, "username").text())
        variable = f"{re.sub(r'[^A-Za-z0-9]+', '_', name).upper()}_PASSWORD"
        table.set("password", add_secret(table, _needed(sasl, "password"), variable))
        mechanisms = {each: each for each in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")}
        _choose(table, _needed(sasl, "mechanism"), "sasl_mechanism", mechanisms)
    tls = exporter.get("tls") or exporter.get("auth", "tls")
    if tls and not _insecure(tls):
        table.set("tls", True)
        add_tls(table, tls, ca="ca_file", cert="cert_file", key="key_file")


def _brokers(value: Value) -> list[str]:
    return value.text().split(",") if value.kind == "text" else value.texts()


def _insecure(tls: Value) -> bool:
    value = tls.get("insecure")
    return value is not None and value.flag()


def _otlp_grpc(table: Table, exporter: Value, name: str) -> None:
    endpoint = _needed(exporter, "endpoint").text()
    tls = exporter.get("tls")
    if "://" not in endpoint:
        endpoint = f"{'http' if tls and _insecure(tls) else 'https'}://{endpoint}"
    table.say("gRPC needs an extra: kexport-otlp[grpc].")
    table.set("type", "otlp")
    table.set("protocol", "grpc")
    table.set("endpoint", endpoint)
    _add_otlp(table, exporter, name)


def _otlp_http(table: Table, exporter: Value, name: str) -> None:
    value = exporter.get("logs_endpoint") if exporter.kind == "table" else None
    table.set("type", "otlp")
    table.set("endpoint", (value or _needed(exporter, "endpoint")).text())
    if value and (unused := exporter.get("endpoint")):
        table.note(unused, "logs_endpoint goes before it")
    _add_otlp(table, exporter, name)


def _add_otlp(table: Table, exporter: Value, name: str) -> None:
    add_headers(table, exporter.get("headers"), name)
    if value := exporter.get("compression"):
        _choose(table, value, "compression", {"gzip": "gzip", "none": "none", "": "none"})
    if tls := exporter.get("tls"):
        _insecure(tls)
        add_tls(table, tls, ca="ca_file", cert="cert_file", key="key_file")


def _s3(table: Table, exporter: Value, _name: str) -> None:
    uploader = _needed(exporter, "s3uploader")
    bucket = _needed(uploader, "s3_bucket").text()
    folders = [value.text() for key in ("s3_base_prefix", "s3_prefix") if (value := uploader.get(key))]
    table.set("type", "s3")
    table.set("url", "/".join([f"s3://{bucket}", *(each.strip("/") for each in folders)]))
    for key in ("region", "endpoint", "storage_class"):
        if value := uploader.get(key):
            table.set(key, value.text())
    value = uploader.get("disable_ssl")
    if value and value.flag():
        table.set("allow_http", True)
    packed = uploader.get("compression")
    known = {"gzip": "jsonl.gz", "zstd": "jsonl.zst", "none": "jsonl", "": "jsonl"}
    if packed:
        _choose(table, packed, "format", known)
    else:
        table.set("format", "jsonl")
    value = uploader.get("s3_force_path_style")
    if value and urlsplit(str(uploader.get("endpoint") or "")).netloc == "":
        table.note(value, "the path has the bucket, unless virtual_hosted is set")


_MAKERS: dict[str, Callable[[Table, Value, str], None]] = {
    "awss3": _s3,
    "debug": _debug,
    "file": _file,
    "kafka": _kafka,
    "logging": _debug,
    "otlp": _otlp_grpc,
    "otlp_grpc": _otlp_grpc,
    "otlp_http": _otlp_http,
    "otlphttp": _otlp_http,
}
