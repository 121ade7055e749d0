"""The settings of `type = "file"`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kexport import ConfigError, SinkConfig

Compression = Literal["none", "gzip", "zstd"]


class FileConfig(SinkConfig, frozen=True, kw_only=True):
    """Where the lines go, and when a new file begins."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description='File to append to, made if missing with its folders; "~" is expanded.'
            ' "-" is standard output.',
        ),
    ]
    rotate_bytes: Annotated[
        int,
        Meta(ge=0, description="A new file begins before this one would grow larger; 0: never for its size."),
    ] = 0
    rotate_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="A new file begins with the first write after this time; 0: never for its age.",
        ),
    ] = 0
    compress: Annotated[Compression, Meta(description="How rotated files are compressed.")] = "none"
    keep_files: Annotated[
        int,
        Meta(ge=0, description="How many rotated files stay, the oldest are deleted; 0: all of them."),
    ] = 0
    fsync: Annotated[
        bool,
        Meta(
            description="Force every write to the disk before it counts as delivered. With false a"
            " kexport that is killed still loses nothing, but a power cut or a crash of the machine can cost"
            " the last events, which are then not written again."
        ),
    ] = True


def check(config: FileConfig, *, name: str) -> None:
    """Raise ConfigError for settings that would silently do nothing."""
    rotates = bool(config.rotate_bytes or config.rotate_seconds)
    if config.path == "-" and (rotates or config.compress != "none" or config.keep_files):
        raise ConfigError(
            f"sinks.{name}: standard output does not rotate: remove rotate_bytes, rotate_seconds, compress"
            " and keep_files, or give path a file"
        )
    if not rotates and (config.compress != "none" or config.keep_files):
        raise ConfigError(
            f"sinks.{name}: compress and keep_files are about rotated files: set rotate_bytes or"
            " rotate_seconds too"
        )
