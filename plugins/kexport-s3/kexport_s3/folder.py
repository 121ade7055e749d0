"""Event -> folder, by the template of the `prefix` setting; each combination is worked out once."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from datetime import UTC
from operator import attrgetter

from kexport import ConfigError, Event

_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")
# What every store and every reader's glob takes as it is; "=" for Hive's partitions.
_ILLEGAL_TEXT = re.compile(r"[^a-zA-Z0-9._=/-]")
_MOST_REMEMBERED = 10_000

_VALUES: dict[str, Callable[[Event], str]] = {
    "cluster": attrgetter("attributes.cluster"),
    "resource": attrgetter("attributes.resource"),
    "kind": attrgetter("attributes.kind"),
    "namespace": attrgetter("attributes.objnamespace"),
    "date": lambda event: _hour(event)[:10],
    "hour": lambda event: _hour(event)[11:13],
}


class Folders:
    """The folders of a template; raises ConfigError for one that can never give any."""

    def __init__(self, template: str, *, name: str) -> None:
        place = f"sinks.{name}: prefix {template!r}"
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ConfigError(f"{place} is no template ({error}): write fields as {{resource}}") from error
        for text, field, form, conversion in parts:
            if _ILLEGAL_TEXT.search(text):
                raise ConfigError(
                    f"{place}: beside fields there may be letters, digits, '.', '_', '-', '=' and '/'"
                )
            if field is not None and (field not in _VALUES or form or conversion):
                known = ", ".join(f"{{{each}}}" for each in _VALUES)
                raise ConfigError(f"{place}: unknown field {{{field}}}: there are {known}")
        template = template.removesuffix("/")
        if template and any(segment in {"", ".", ".."} for segment in template.split("/")):
            raise ConfigError(f"{place}: '/' stands between folders' names, and '.' and '..' are none")
        self._template = template
        self._values = [(field, _VALUES[field]) for field in sorted({part[1] for part in parts if part[1]})]
        self._known: dict[tuple[str, ...], str] = {}

    def folder(self, event: Event) -> str:
        """The event's folder, with a "/" behind it unless it is empty."""
        values = tuple([value(event) for _, value in self._values])
        known = self._known.get(values)
        return known if known is not None else self._fill_in(values)

    def _fill_in(self, values: tuple[str, ...]) -> str:
        legal = {
            field: _ILLEGAL.sub("_", value) or "_"
            for (field, _), value in zip(self._values, values, strict=True)
        }
        segments = [_segment(segment) for segment in self._template.format(**legal).split("/")]
        folder = "/".join([*segments, ""]) if self._template else ""
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[values] = folder
        return folder


def _segment(text: str) -> str:
    """A folder's name; a value must not be able to climb out of its place."""
    return text if text.strip(".") else "_" * len(text)


def _hour(event: Event) -> str:
    """The event's time in UTC; kexport writes it so already, another origin may not."""
    time = event.attributes.time
    return time if time.endswith("Z") else event.time.astimezone(UTC).isoformat()
