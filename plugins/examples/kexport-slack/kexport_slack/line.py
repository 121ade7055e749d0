"""One event -> one line for people, or none if there is nothing to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from kexport import Event
from kexport_slack.memory import Draft, Known
from kexport_slack.state import SHOWN, State, changes, facts, state_of

_MOST_CHARACTERS = 400
_UNKNOWN = "what it was before is not known"


class Line(NamedTuple):
    """Text as people read it; a loud line is the last to be left out of a message."""

    text: str
    loud: bool = False


class _More(msgspec.Struct):
    """Attributes that not every kexport writes, and the states that come with `diff`."""

    manager: str = ""


_more = msgspec.json.Decoder(_More)


def line_of(event: Event, draft: Draft, *, quiet: bool) -> Line | None:
    """The event's line; notes in the draft what it says. Raises ValueError if it is no CloudEvent of ours."""
    data = event.data
    told = event.attributes
    if told.rejectedby:  # neither news of the object nor a repeat
        refused = f"refused by {told.rejectedby}: {told.rejectedreason}"
        return Line(_cut(f"{told.kind} {told.subject}: {event.change}, {refused}"), loud=True)
    if event.change == "synced":
        return None if quiet else Line(_cut(f"{told.subject}: everything that exists has been listed"))
    if ".stream." in told.type:
        return Line(_cut(_stream_words(event, data.get("object"))), loud=True)
    words = _object_words(event, data, draft, quiet=quiet)
    if not words:
        return None
    by = _more.decode(event.encode()).manager
    if by:
        words = [*words, f"by {by}"]
    return Line(_cut(f"{told.kind} {told.subject}: {', '.join(words)}"))


def _object_words(event: Event, data: Mapping[str, Any], draft: Draft, *, quiet: bool) -> list[str]:
    told = event.attributes
    known = draft.get(event.key)
    if known and known.event == event.id:
        return [] if quiet else ["told again"]
    after = state_of(data.get("object"))
    draft.note(event.key, Known(after, event.id, told.sequence))
    if event.change == "added":
        if told.origin == "snapshot":
            return [] if quiet else ["exists", *facts(after)]
        return ["added", *facts(after)]
    if event.change == "deleted":
        return ["deleted (seen by comparing)" if told.origin == "resync" else "deleted"]
    if event.change == "left":
        return ["is deleted, or no longer selected"]
    # An older event comes when events are told again: what is remembered is not what was before it.
    remembered = known.state if known and known.sequence < told.sequence else None
    words = _modified_words(data, remembered, after)
    return words or ([] if quiet else ["modified"])


def _modified_words(data: Mapping[str, Any], remembered: State | None, after: State) -> list[str]:
    """What the event itself says of the change is best, then what is remembered, then nothing is known."""
    if isinstance(data.get("previous"), Mapping):
        return changes(state_of(data["previous"]), after)
    if remembered is not None:
        return changes(remembered, after)
    now = facts(after)
    patch = data.get("patch")
    if isinstance(patch, list):
        return ["modified", f"now {', '.join(now)}"] if now and _touches_what_is_shown(patch) else []
    return [f"modified ({_UNKNOWN})", *now]


def _touches_what_is_shown(patch: list[Any]) -> bool:
    """Whether an RFC 6902 patch, which has no old values, changes anything that lines speak of.

    A path leads to what is shown, or to something around it: it is compared as far as both go.
    """
    paths = (each.get("path") for each in patch if isinstance(each, Mapping))
    touched = [path.split("/")[1:] for path in paths if isinstance(path, str)]
    return any(
        all(wanted in {"*", found} for wanted, found in zip(shown, path, strict=False))
        for path in touched
        for shown in SHOWN
    )


def _stream_words(event: Event, details: object) -> str:
    """A gap, with all that is known of it; other news of a stream by its name."""
    known = details if isinstance(details, Mapping) else {}
    if event.change != "gap":
        return f"{event.change.upper()} of {event.subject}, see kexport's log"
    words = [f"GAP in {event.subject}: {known.get('reason', 'for an unknown reason')}"]
    if "from" in known:
        words.append(f"history from {known['from']} to {known.get('to')} was not seen live")
    if known.get("dropped"):
        words.append(f"{known['dropped']} events were given up")
    if known.get("recovered"):
        words.append(f"{known['recovered']} changes read back")
    inferred = [f"{known[name]} {name}" for name in ("added", "modified", "deleted") if known.get(name)]
    if inferred:
        words.append(f"inferred: {' and '.join(inferred)}")
    words.append("nothing is missing" if known.get("complete") is True else "changes may be missing")
    return "; ".join(words)


def _cut(text: str) -> str:
    """One line, of a length that leaves room for others."""
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
