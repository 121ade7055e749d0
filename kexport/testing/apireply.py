"""Answers as HTTP: a body, a document or a refusal, with the headers that the real server sets."""

import gzip

import msgspec
from aiohttp import web

from kexport.testing.failure import ApiFailure

JSON = "application/json"
PLAIN_NOT_FOUND = "404 page not found\n"
PLAIN_UNAVAILABLE = "service unavailable\n"
_GZIP_FROM_BYTES = 128 * 1024


def body(content: bytes, status: int = 200) -> web.Response:
    return web.Response(body=content, status=status, content_type=JSON)


def json(document: object, status: int = 200) -> web.Response:
    return body(msgspec.json.encode(document) + b"\n", status)


def read(request: web.BaseRequest, content: bytes) -> web.Response:
    """Answer a GET or a list: big ones as gzip, for clients that take it."""
    if len(content) <= _GZIP_FROM_BYTES or not takes_gzip(request):
        return body(content)
    response = body(gzip.compress(content, 1))
    response.headers.update({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
    return response


def takes_gzip(request: web.BaseRequest) -> bool:
    accepted = request.headers.get("Accept-Encoding", "").split(",")
    return any(form.split(";")[0].strip() == "gzip" for form in accepted)


def refusal(failure: ApiFailure) -> web.Response:
    response = json(failure.status(), failure.code)
    if failure.retry_after:
        response.headers["Retry-After"] = str(failure.retry_after)
    return response


def not_found() -> web.Response:
    return web.Response(status=404, text=PLAIN_NOT_FOUND)


def unavailable() -> web.Response:
    return web.Response(status=503, text=PLAIN_UNAVAILABLE)
