"""kexport streams Kubernetes changes as CloudEvents into pluggable sinks.

These are all the names that a sink plugin needs; everything else may change between versions.
"""

from kexport.errors import ConfigError, RejectedError, TransientError
from kexport.event import Event
from kexport.hookspecs import hookimpl
from kexport.sink import BatchConfig, Sink, SinkConfig, SinkContext, SinkType

__all__ = [
    "BatchConfig",
    "ConfigError",
    "Event",
    "RejectedError",
    "Sink",
    "SinkConfig",
    "SinkContext",
    "SinkType",
    "TransientError",
    "hookimpl",
]
__version__ = "0.1.0"
