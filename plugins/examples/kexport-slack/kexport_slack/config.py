"""The settings of `type = "slack"`, and what can be said about them without any I/O."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from yarl import URL

from kexport import ConfigError, SinkConfig


class SlackConfig(SinkConfig, frozen=True, kw_only=True):
    """Which channel, and how much of it."""

    webhook_url: Annotated[
        str,
        Meta(min_length=1, description="The incoming webhook's URL, which is a secret; best as ${NAME}."),
    ]
    max_lines: Annotated[
        int, Meta(ge=1, le=200, description="Most lines in one message; the rest is only counted.")
    ] = 20
    min_interval_seconds: Annotated[
        float, Meta(ge=0, le=5, description="Least time between two messages; Slack allows one a second.")
    ] = 1.0
    quiet: Annotated[
        bool,
        Meta(description="Leave out what shows no difference, the first listing and the ends of listings."),
    ] = True
    remember_objects: Annotated[
        int,
        Meta(ge=1, description="Of how many objects the last state is remembered, to say what changed."),
    ] = 10_000
    request_timeout_seconds: Annotated[
        float, Meta(gt=0, description="A message without an answer for so long has failed.")
    ] = 10.0


def checked(config: SlackConfig, *, place: str) -> URL:
    """The URL, if it is one; raises ConfigError without a word of it."""
    try:
        url = URL(config.webhook_url)
        _ = url.port  # looked at only when asked for
    except ValueError:
        raise ConfigError(f"{place}.webhook_url: is no URL: copy it from the app's settings") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"{place}.webhook_url: must begin with https:// and name a host")
    if url.user or url.password:
        raise ConfigError(f"{place}.webhook_url: has a password in it, which Slack's never have")
    return url
