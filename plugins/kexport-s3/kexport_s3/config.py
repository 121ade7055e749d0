"""The settings of `type = "s3"`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from kexport import SinkConfig

Format = Literal["jsonl.zst", "jsonl.gz", "jsonl", "parquet"]


class S3Config(SinkConfig, frozen=True, kw_only=True):
    """Which bucket, which folders in it, which form."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            description='Bucket and a folder in it: "s3://bucket/folder", "gs://…" (Google),'
            ' "az://…" (Azure), or "file:///folder" to try things out.',
        ),
    ]
    prefix: Annotated[
        str,
        Meta(
            description="Folders of each event's object, below the url; {cluster}, {resource}, {kind},"
            ' {namespace}, and {date} and {hour} of the event\'s time in UTC are filled in, with "_" for'
            " what does not belong into a folder's name and for no value."
        ),
    ] = "{cluster}/{resource}/dt={date}/hour={hour}/"
    format: Annotated[
        Format,
        Meta(description="What an object holds: events as JSON lines, or a Parquet table (needs pyarrow)."),
    ] = "jsonl.zst"
    region: Annotated[
        str, Meta(description="Region of the bucket; empty: AWS_REGION, or else us-east-1.")
    ] = ""
    endpoint: Annotated[
        str,
        Meta(
            description="Address of a server other than AWS, such as https://minio:9000;"
            " empty: AWS_ENDPOINT_URL, or else AWS."
        ),
    ] = ""
    allow_http: Annotated[bool, Meta(description="Talk to the endpoint without TLS.")] = False
    virtual_hosted: Annotated[
        bool,
        Meta(
            description="The bucket is part of the host's name, not of the path; an endpoint then begins"
            " with it."
        ),
    ] = False
    ca_file: Annotated[
        str, Meta(description="PEM file of authorities that may sign the endpoint, beside the system's.")
    ] = ""
    access_key_id: Annotated[
        str,
        Meta(
            description="Access key; empty: found as AWS's own tools do, from the environment, a service"
            " account's role (IRSA, pod identity) or the machine's."
        ),
    ] = ""
    secret_access_key: Annotated[
        str, Meta(description="Secret of the access key, best as ${NAME} or ${file:/path}.")
    ] = ""
    session_token: Annotated[str, Meta(description="Session token of a temporary access key.")] = ""
    profile: Annotated[
        str,
        Meta(
            description="Profile of AWS's shared configuration files to take credentials from (needs boto3)."
        ),
    ] = ""
    storage_class: Annotated[
        str, Meta(description="Storage class of the objects, such as STANDARD_IA; empty: the bucket's.")
    ] = ""
    request_timeout_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="How long one upload may take.")
    ] = 60.0
    options: Annotated[
        dict[str, str],
        Meta(
            description="Anything else for the store, by object_store's names, such as"
            ' "aws_server_side_encryption", "google_service_account" or "azure_storage_account_name".'
        ),
    ] = field(default_factory=dict)
