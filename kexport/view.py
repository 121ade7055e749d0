"""What those who show kexport's state may read: nothing of it is ever written through here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple

from kexport.config import Config, SinkSettings
from kexport.journal import Journal
from kexport.plugins import GROUP
from kexport.telemetry import Stats
from kexport.terminal import mask


class Distribution(NamedTuple):
    """The distribution that a sink type comes from; "" where it is not installed as a plugin."""

    name: str = ""
    version: str = ""


class View(NamedTuple):
    """`config` gives the configuration that is in force: another one after a reload."""

    stats: Stats
    journal: Journal
    config: Callable[[], Config]

    @property
    def cluster(self) -> str:
        """The cluster's name as events carry it; "" before the cluster was reached for the first time."""
        return self.config().root.cluster.name or self.journal.cluster_uid

    def dropped(self, sink: str) -> int:
        """Events lost to a sink: what it has been told of, and what it will be told of when it answers.

        What is under way to it the journal may have given up, too, but as long as we run it gets that.
        """
        stats = self.stats.lanes[sink]
        return stats.dropped + self.journal.lane(sink).done(stats.under_way).dropped

    def masked(self, text: str) -> str:
        """The text with secrets of the configuration shown by their names."""
        return mask(text, self.config().secrets)


def distribution(settings: SinkSettings) -> Distribution:
    """Where this sink's plugin comes from, by the package of its settings."""
    return _installed().get(settings.type.config.__module__.partition(".")[0], Distribution())


@cache
def _installed() -> dict[str, Distribution]:
    return {
        point.module.partition(".")[0]: Distribution(point.dist.name, point.dist.version)
        for point in entry_points(group=GROUP)
        if point.dist
    }
