"""Event -> topic name, by the template of the `topic` setting; each combination is worked out once."""

from __future__ import annotations

import re
import string
from operator import attrgetter
from typing import Any

from kexport import ConfigError, Event

MAX_LENGTH = 249
_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")
_ATTRIBUTES = {"resource": "resource", "kind": "kind", "namespace": "objnamespace", "cluster": "cluster"}
_MOST_REMEMBERED = 10_000


class NoTopicError(ValueError):
    """The template gives no legal name for this event, and never will."""


class Topics:
    """The topics of a template; `fixed` is the only one when it has no fields, else empty."""

    def __init__(self, template: str, *, name: str) -> None:
        self._template = template
        place = f"sinks.{name}: topic {template!r}"
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ConfigError(f"{place} is no template ({error}): write fields as {{resource}}") from error
        for text, field, form, conversion in parts:
            if _ILLEGAL.search(text):
                raise ConfigError(f"{place}: a topic name holds only letters, digits, '.', '_' and '-'")
            if field is not None and (field not in _ATTRIBUTES or form or conversion):
                known = ", ".join(f"{{{each}}}" for each in _ATTRIBUTES)
                raise ConfigError(f"{place}: unknown field {{{field}}}: there are {known}")
        self._fields = sorted({field for _, field, _, _ in parts if field})
        self.fixed = "" if self._fields else template
        if template in {".", ".."} or len(self.fixed) > MAX_LENGTH:
            raise ConfigError(f"{place} is no topic name: at most {MAX_LENGTH} characters, not '.' or '..'")
        self._values = attrgetter(*(_ATTRIBUTES[field] for field in self._fields or ["resource"]))
        self._known: dict[Any, str] = {}

    def topic(self, event: Event) -> str:
        """The event's topic; NoTopicError if that would be no legal name."""
        if self.fixed:
            return self.fixed
        values = self._values(event.attributes)
        known = self._known.get(values)
        return known if known is not None else self._fill_in(values)

    def _fill_in(self, values: Any) -> str:
        each = [values] if isinstance(values, str) else values
        legal = {
            field: _ILLEGAL.sub("_", value) or "_" for field, value in zip(self._fields, each, strict=True)
        }
        topic = self._template.format(**legal)
        if len(topic) > MAX_LENGTH or topic in {".", ".."}:
            raise NoTopicError(f"{topic[:300]!r} is no topic name: at most {MAX_LENGTH} characters")
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[values] = topic
        return topic
