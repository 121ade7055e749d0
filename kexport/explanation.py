"""Explanations in words, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from kexport.explain import Delivery, Effect, Entry, Explanation, Passage, Step
from kexport.terminal import plain

MOST_EFFECTS = 20


def document(explanations: Sequence[Explanation]) -> str:
    return msgspec.json.format(msgspec.json.encode(explanations), indent=2).decode()


def words(explanations: Iterable[Explanation]) -> str:
    return "\n\n".join("\n".join(map(plain, _lines(each))) for each in explanations)


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.object}, {explanation.change}, origin {explanation.origin}"
    yield "  streams"
    yield from (f"    {_entry(entry)}" for entry in explanation.resources)
    if not explanation.sinks:
        yield "  no stream takes it, so that it is neither stored nor delivered"
        return
    yield "  transforms"
    for step in explanation.transforms:
        yield from (f"    {line}" for line in _step(step))
    yield "  sinks"
    for delivery in explanation.sinks:
        yield from (f"    {line}" for line in _delivery(delivery))


def _entry(entry: Entry) -> str:
    if not entry.streams:
        return f"{entry.entry} {entry.resource}: no, by {entry.reason}"
    reason = f", {entry.reason}" if entry.reason else ""
    return f"{entry.entry} {entry.resource}: yes, by stream {', '.join(entry.streams)}{reason}"


def _step(step: Step) -> Iterator[str]:
    yield f"{step.entry}:{'' if step.effects else ' nothing to do'}"
    yield from (f"  {effect.what:<7} {effect.path}" for effect in _some(step.effects))
    if len(step.effects) > MOST_EFFECTS:
        yield f"  and {len(step.effects) - MOST_EFFECTS} more"


def _some(effects: list[Effect]) -> list[Effect]:
    return effects[:MOST_EFFECTS]


def _delivery(delivery: Delivery) -> Iterator[str]:
    yield f"{delivery.sink}: {'gets it' if delivery.gets else 'does not get it'}{_why(delivery)}"
    yield from (f"  {passage.route}: {_passage(passage)}" for passage in delivery.routes)


def _why(delivery: Delivery) -> str:
    if delivery.routes:
        return ""
    return ", as everything" if delivery.gets else ", since no route names it"


def _passage(passage: Passage) -> str:
    reason = f" ({passage.reason})" if passage.reason else ""
    return f"passes{reason}" if passage.passes else f"no, by {passage.condition}{reason}"
