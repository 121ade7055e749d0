"""What the API server answers when it refuses: a `Status` object, with the words of the real one.

Clients tell cases apart by code, reason, causes and sometimes by the message's text, so all four are kept.
"""

from collections.abc import Sequence
from typing import Any

from kexport.testing.kinds import Resource

LIST_EXPIRED = "The resourceVersion for the provided list is too old."
WATCH_EXPIRED = "The resourceVersion for the provided watch is too old."
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may show "
    "up in the list."
)
MODIFIED_MEANWHILE = (
    "the object has been modified; please apply your changes to the latest version and try again"
)

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiFailure(Exception):  # noqa: N818 - "error" would say less: this is an answer, and it is sent
    """An answer other than success; `status()` is its body."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        proceed: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = _REASONS.get(code, "") if reason is None else reason
        self.details = details
        self.proceed = proceed

    @property
    def retry_after(self) -> int:
        return int((self.details or {}).get("retryAfterSeconds", 0))

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.proceed} if self.proceed else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def _about(resource: Resource, name: str) -> dict[str, Any]:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def bad_request(message: str) -> ApiFailure:
    return ApiFailure(400, message)


def unauthorized() -> ApiFailure:
    return ApiFailure(401, "Unauthorized")


def forbidden(resource: Resource, name: str, why: str) -> ApiFailure:
    quoted = f' "{name}"' if name else ""
    return ApiFailure(403, f"{resource.name}{quoted} is forbidden: {why}", details=_about(resource, name))


def not_found(resource: Resource, name: str) -> ApiFailure:
    return ApiFailure(404, f'{resource.name} "{name}" not found', details=_about(resource, name))


def no_resource() -> ApiFailure:
    return ApiFailure(404, "the server could not find the requested resource", details={})


def conflict(resource: Resource, name: str, why: str = MODIFIED_MEANWHILE) -> ApiFailure:
    message = f'Operation cannot be fulfilled on {resource.name} "{name}": {why}'
    return ApiFailure(409, message, details=_about(resource, name))


def already_exists(resource: Resource, name: str) -> ApiFailure:
    message = f'{resource.name} "{name}" already exists'
    return ApiFailure(409, message, reason="AlreadyExists", details=_about(resource, name))


def expired(message: str, *, proceed: str = "") -> ApiFailure:
    return ApiFailure(410, message, proceed=proceed)


def too_large(wanted: int, current: int, *, retry_after: int = 1) -> ApiFailure:
    """Answer a read at a revision that is not there yet; etcd's own answer names no time to retry."""
    details: dict[str, Any] = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
    }
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    return ApiFailure(
        504, f"Timeout: Too large resource version: {wanted}, current: {current}", details=details
    )


def initializing(retry_after: int) -> ApiFailure:
    return ApiFailure(429, "storage is (re)initializing", details={"retryAfterSeconds": retry_after})


Cause = tuple[str, str, str]
"""Reason, message and field of one thing that is wrong, such as FieldValueForbidden."""


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiFailure:
    qualified = f"{kind}.{group}" if group else kind
    errors = [f"{field}: {message}" for _, message, field in causes]
    summary = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    details = {
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [
            {"reason": reason, "message": message, "field": field} for reason, message, field in causes
        ],
    }
    present = {key: value for key, value in details.items() if value}
    return ApiFailure(422, f'{qualified} "{name}" is invalid: {summary}', details=present)


def invalid_object(resource: Resource, name: str, *causes: Cause) -> ApiFailure:
    return invalid(resource.group, resource.kind, name, causes)


def invalid_options(*causes: Cause) -> ApiFailure:
    return invalid("meta.k8s.io", "ListOptions", "", causes)
