"""What the steps of following one stream work with."""

from __future__ import annotations

from typing import NamedTuple

from kexport.change import Stream
from kexport.encoder import Encoder
from kexport.journal import Journal
from kexport.kube import Client
from kexport.shape import Shaper
from kexport.telemetry import StreamStats
from kexport.trail import Trail


class Parts(NamedTuple):
    """One stream, where it comes from, what is made of it, and where that goes."""

    stream: Stream
    client: Client
    journal: Journal
    encoder: Encoder
    shaper: Shaper
    stats: StreamStats
    trail: Trail | None = None
