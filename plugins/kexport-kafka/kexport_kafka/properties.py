"""Settings -> librdkafka's properties; refuses what would make an acknowledgement worth less than it says."""

from __future__ import annotations

from pathlib import Path

from kexport import ConfigError
from kexport_kafka.config import KafkaConfig

Value = str | int | float | bool

# How long the brokers may be silent before a write gives up and the engine takes over.
MESSAGE_TIMEOUT_MS = 30_000

_SETTING_OF = {
    "bootstrap.servers": "bootstrap_servers",
    "metadata.broker.list": "bootstrap_servers",
    "compression.type": "compression",
    "compression.codec": "compression",
    "sasl.username": "username",
    "sasl.password": "password",
    "ssl.ca.location": "ca_file",
    "ssl.certificate.location": "cert_file",
    "ssl.key.location": "key_file",
    "ssl.key.password": "key_password",
}
_ALL_REPLICAS = (
    frozenset({"all", "-1"}),
    "an event must be on all in-sync replicas when it counts as delivered",
)
# Property -> (the values that are fine, why no other is).
_FIXED: dict[str, tuple[frozenset[str], str]] = {
    "acks": _ALL_REPLICAS,
    "request.required.acks": _ALL_REPLICAS,
    "enable.idempotence": (
        frozenset({"true"}),
        "without it a retry inside the client can change the order of one object's events",
    ),
    "delivery.report.only.error": (
        frozenset({"false"}),
        "events are acknowledged by their delivery reports",
    ),
    "partitioner": (
        frozenset({"murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a"}),
        "one object's events must go to one partition",
    ),
    "transactional.id": (frozenset(), "kexport writes at least once, without transactions"),
    "plugin.library.paths": (frozenset(), "kexport loads no foreign code into itself"),
}


def client_properties(config: KafkaConfig, *, name: str) -> dict[str, Value]:
    """The properties for `Producer`; raises ConfigError for settings that contradict each other."""
    _check(config, name=name)
    return {
        "bootstrap.servers": ",".join(config.bootstrap_servers),
        "client.id": f"kexport-{name}",
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": config.compression,
        # Each write ends with a flush, which waits for nobody. Up to there a partition's records go together:
        # of two requests under way a new producer's second may be taken and its first refused.
        "linger.ms": 100,
        # As in the Java clients, so that streams of other producers with the same keys can be joined.
        "partitioner": "murmur2_random",
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        # Counted before compression; how large a compressed record may be, the topic decides.
        "message.max.bytes": 10_000_000,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 131_072,
        # How long an unknown topic may take to be made by the brokers before its records fail.
        "topic.metadata.propagation.max.ms": 10_000,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 2_000,
        **_security(config),
        **config.properties,
    }


def _security(config: KafkaConfig) -> dict[str, Value]:
    sasl = bool(config.username)
    chosen: dict[str, Value] = {
        "security.protocol": ("sasl_" if sasl else "") + ("ssl" if config.tls else "plaintext")
    }
    if sasl:
        chosen |= {
            "sasl.mechanism": config.sasl_mechanism,
            "sasl.username": config.username,
            "sasl.password": config.password,
        }
    files = {
        "ssl.ca.location": config.ca_file,
        "ssl.certificate.location": config.cert_file,
        "ssl.key.location": config.key_file,
        "ssl.key.password": config.key_password,
    }
    return chosen | {key: value for key, value in files.items() if value}


def _check(config: KafkaConfig, *, name: str) -> None:
    place = f"sinks.{name}"
    if config.password and not config.username:
        raise ConfigError(f"{place}: password without username: set username too")
    if not config.tls:
        for setting in ("ca_file", "cert_file", "key_file", "key_password"):
            if getattr(config, setting):
                raise ConfigError(f"{place}: {setting} without TLS: set tls = true")
    if config.key_file and not config.cert_file:
        raise ConfigError(f"{place}: key_file without cert_file: set cert_file too")
    _check_addresses(config, place)
    for key, value in config.properties.items():
        if key in _SETTING_OF:
            raise ConfigError(f"{place}.properties: {key!r} has a setting of its own: {_SETTING_OF[key]}")
        allowed, reason = _FIXED.get(key, (None, ""))
        if allowed is not None and str(value).lower() not in allowed:
            raise ConfigError(f"{place}.properties: {key} = {value} is refused: {reason}: remove it")


def _check_addresses(config: KafkaConfig, place: str) -> None:
    for server in config.bootstrap_servers:
        if "://" in server:
            raise ConfigError(
                f"{place}.bootstrap_servers: {server!r} is a URL: write host:port; TLS is tls = true"
            )


def check_files(config: KafkaConfig, *, name: str) -> None:
    """The client's own words for a file that is not there name neither it nor its setting."""
    for setting in ("ca_file", "cert_file", "key_file"):
        path = getattr(config, setting)
        if path and not Path(path).is_file():
            raise ConfigError(f"sinks.{name}.{setting}: there is no file {path}: name one that is there")
