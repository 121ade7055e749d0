"""The settings of `type = "kafka"`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from kexport import SinkConfig

Mode = Literal["structured", "binary"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaConfig(SinkConfig, frozen=True, kw_only=True):
    """Which brokers, which topic, which form."""

    bootstrap_servers: Annotated[
        list[str], Meta(min_length=1, description="Brokers to begin with, each as host:port.")
    ]
    topic: Annotated[
        str,
        Meta(
            min_length=1,
            description="Topic of each event; {resource}, {kind}, {namespace} and {cluster} are filled in,"
            ' with "_" for what a topic name may not hold and for no namespace.',
        ),
    ] = "k8s.{resource}"
    mode: Annotated[
        Mode,
        Meta(
            description="CloudEvents content mode: structured puts the whole event into the record's value,"
            " binary puts its data there and its attributes into ce_ headers."
        ),
    ] = "structured"
    tombstones: Annotated[
        bool,
        Meta(
            description="For compacted topics: behind the record of an object that was deleted, or left its"
            " selector, a record without a value and with the same key, which lets Kafka forget that object."
        ),
    ] = False
    compression: Annotated[Compression, Meta(description="How record batches are compressed.")] = "lz4"
    username: Annotated[str, Meta(description="SASL user; empty: no SASL.")] = ""
    password: Annotated[str, Meta(description="SASL password, best as ${NAME} or ${file:/path}.")] = ""
    sasl_mechanism: Annotated[SaslMechanism, Meta(description="How the password is proved.")] = (
        "SCRAM-SHA-512"
    )
    tls: Annotated[bool, Meta(description="Talk TLS to the brokers.")] = False
    ca_file: Annotated[
        str, Meta(description="PEM file of the authorities that may sign brokers; empty: the system's.")
    ] = ""
    cert_file: Annotated[str, Meta(description="PEM file of this client's certificate.")] = ""
    key_file: Annotated[str, Meta(description="PEM file of this client's key.")] = ""
    key_password: Annotated[str, Meta(description="Password of the key file.")] = ""
    properties: Annotated[
        dict[str, str | int | float | bool],
        Meta(
            description="Anything else for the client, by librdkafka's names, such as"
            ' "message.timeout.ms"; what would break the guarantees is refused.'
        ),
    ] = field(default_factory=dict)
