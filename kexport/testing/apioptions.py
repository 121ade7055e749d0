"""The query of a LIST or WATCH, read and refused as the API server reads and refuses it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from kexport.testing.failure import ApiFailure, Cause, bad_request, invalid_options
from kexport.testing.kinds import Resource
from kexport.testing.selectors import Selection, select
from kexport.testing.settings import Settings

_EXACT = "Exact"
_NOT_OLDER_THAN = "NotOlderThan"


@dataclass(frozen=True, kw_only=True)
class Options:
    watch: bool
    version: str
    match: str
    proceed: str
    """The `continue` token."""
    limit: int
    bookmarks: bool
    initial_events: bool | None
    timeout_seconds: int
    selection: Selection

    @property
    def exact(self) -> bool:
        """Whether one certain version is wanted; a limit at a version means it too, an old quirk."""
        return self.match == _EXACT or (not self.match and self.limit > 0 and self.version not in ("", "0"))


def read(query: Mapping[str, str], resource: Resource, settings: Settings) -> Options:
    initial = query.get("sendInitialEvents")
    options = Options(
        watch=_true(query.get("watch", "")),
        version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        proceed=query.get("continue", ""),
        limit=_number(query, "limit"),
        bookmarks=_true(query.get("allowWatchBookmarks", "")),
        initial_events=None if initial is None else _true(initial),
        timeout_seconds=_number(query, "timeoutSeconds"),
        selection=select(resource, query.get("labelSelector", ""), query.get("fieldSelector", "")),
    )
    causes = _watch_causes(options, settings) if options.watch else _list_causes(options)
    if causes:
        raise invalid_options(*causes)
    return options


def revision(options: Options) -> int:
    """Return the version as etcd's number; 0 if it is unset or "0"."""
    if not options.version:
        return 0
    if not options.version.isascii() or not options.version.isdigit():
        why = f'strconv.ParseUint: parsing "{options.version}": invalid syntax'
        message = f'resourceVersion: Invalid value: "{options.version}": {why}'
        # A watch reports it as an internal error: nobody translates what the watch cache says.
        raise (
            ApiFailure(500, message, reason="")
            if options.watch
            else bad_request(f"invalid resource version: {message}")
        )
    return int(options.version)


def encode_continue(at: int, after: str) -> str:
    token = {"v": "meta.k8s.io/v1", "rv": at, "start": f"/{after}\0"}
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def decode_continue(options: Options) -> tuple[int, str]:
    """Return the revision (-1: the newest) and the key, relative to the collection, behind which to go on."""
    if options.version not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    try:
        padded = options.proceed + "=" * (-len(options.proceed) % 4)
        token = msgspec.json.decode(base64.urlsafe_b64decode(padded))
        return int(token["rv"]), str(token["start"]).removeprefix("/").removesuffix("\0")
    except (ValueError, TypeError, KeyError) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from None


def _true(text: str) -> bool:
    return text in ("1", "t", "T", "true", "TRUE", "True")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _forbid(field: str, why: str) -> Cause:
    return ("FieldValueForbidden", f"Forbidden: {why}", field)


def _unsupported(match: str, *supported: str) -> Cause:
    values = ", ".join(f'"{value}"' for value in supported)
    message = f'Unsupported value: "{match}": supported values: {values}'
    return ("FieldValueNotSupported", message, "resourceVersionMatch")


def _list_causes(options: Options) -> list[Cause]:
    causes, field = [], "resourceVersionMatch"
    if options.match:
        if not options.version:
            causes.append(_forbid(field, f"{field} is forbidden unless resourceVersion is provided"))
        if options.proceed:
            causes.append(_forbid(field, f"{field} is forbidden when continue is provided"))
        if options.match not in (_EXACT, _NOT_OLDER_THAN):
            causes.append(_unsupported(options.match, _EXACT, _NOT_OLDER_THAN, ""))
        if options.match == _EXACT and options.version == "0":
            causes.append(_forbid(field, f'{field} "exact" is forbidden for resourceVersion "0"'))
    if options.initial_events is not None:
        causes.append(_forbid("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_causes(options: Options, settings: Settings) -> list[Cause]:
    causes, field = [], "resourceVersionMatch"
    if options.initial_events is not None:
        if options.match != _NOT_OLDER_THAN:
            causes.append(_forbid(field, f"sendInitialEvents requires setting {field} to {_NOT_OLDER_THAN}"))
        if not settings.watch_list:
            why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            causes.append(_forbid("sendInitialEvents", why))
    if options.match:
        if options.initial_events is None:
            causes.append(
                _forbid(field, f"{field} is forbidden for watch unless sendInitialEvents is provided")
            )
        if options.match != _NOT_OLDER_THAN:
            causes.append(_unsupported(options.match, _NOT_OLDER_THAN))
        if options.proceed:
            causes.append(_forbid(field, f"{field} is forbidden when continue is provided"))
    return causes
