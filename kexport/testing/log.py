"""A log that remembers: what a sink says through its context, to be looked at in a test."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from typing_extensions import override

from kexport.telemetry import Log


class Entry(NamedTuple):
    """One line of the log, before it is formatted."""

    level: str
    """`debug`, `info`, `warning` or `error`; an exception is an error."""
    message: str
    fields: Mapping[str, object]


class SinkLog(Log):
    """`make_context(log=SinkLog())`: remembers every line, and passes it on to `logging`."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("kexport.sink"))
        self.entries: list[Entry] = []

    @override
    def bind(self, **fields: object) -> SinkLog:
        """One more log with these fields, whose lines are remembered here."""
        bound = SinkLog()
        bound.entries, bound._fields = self.entries, {**self._fields, **fields}
        return bound

    @property
    def messages(self) -> list[str]:
        return [entry.message for entry in self.entries]

    @property
    def text(self) -> str:
        """Everything that was said, a line an entry: to see what is in it, or that a secret is not."""
        return "\n".join(
            " ".join([level, message, *(f"{name}={value}" for name, value in fields.items())])
            for level, message, fields in self.entries
        )

    @override
    def _write(
        self, level: int, sentence: str, fields: Mapping[str, object], error: BaseException | None = None
    ) -> None:
        name = logging.getLevelName(level).lower()
        self.entries.append(Entry(name, sentence, {**self._fields, **fields}))
        super()._write(level, sentence, fields, error)
