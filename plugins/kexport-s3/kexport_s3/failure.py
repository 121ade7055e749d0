"""What a store's error means for the engine; the only place where obstore's errors are judged.

obstore tells permission, absence and the like apart by type, and everything else by text alone: the server's
answer (XML with a code, mostly), or what the network said, deep in a dump of the client's inside.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from kexport import ConfigError, TransientError

# What obstore's calls raise beside its own BaseError.
STORE_ERRORS = (BaseError, OSError, NotImplementedError, ValueError)

_MOST_TEXT = 300
_CODE, _MESSAGE = (
    re.compile(r"<Code>(.*?)</Code>", re.DOTALL),
    re.compile(r"<Message>(.*?)</Message>", re.DOTALL),
)
# Innermost first: what the system said, what TLS said.
_CAUSES = (
    re.compile(r'(?:message|error): "([^"]+)"'),
    re.compile(r"(invalid peer certificate: \w+|InvalidCertificate\(\w+\))"),
    re.compile(r"(operation timed out|TimedOut)"),
)
_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "InvalidIdentityToken",
        "AuthenticationFailed",  # Azure
        "XAdminUserNotFound",  # versitygw, with status 404
    }
)
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired"})
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
# Gives a machine its credentials, and is asked when nothing else was configured.
_MACHINE = re.compile(r"https?://(169\.254\.169\.254|metadata\.google|\[fd00:ec2)|/latest/api/token")
# How obstore names what we gave it for a profile.
_PROVIDER = "External AWS credential provider: "
# The store is only ever sent PUTs: other requests ask for credentials, of STS (POST) or a pod's agent (GET).
_NOT_OURS = re.compile(r"Error performing (GET|POST) ")
_CLIENT_AT_FAULT = re.compile(r"status code: 4\d\d|builder error")
_SERVER_TROUBLE = re.compile(r"status code: 5\d\d")
_REQUEST = re.compile(r"^.*Error performing (\w+ \S+) in .*? - (.*)$")


class _Verdict(NamedTuple):
    sentence: str
    final: bool = False


def failure(error: Exception, *, place: str, url: str, written: int) -> TransientError:
    """The error to raise from `write` when event number `written` met this one: it is tried again."""
    return TransientError(f"{place}: {_judged(error, url).sentence}", written=written)


def opening_failure(error: Exception, *, place: str, url: str) -> ConfigError | TransientError:
    """The error to raise from `open`; ConfigError for what somebody must change."""
    sentence, final = _judged(error, url)
    return ConfigError(f"{place}: {sentence}") if final else TransientError(f"{place}: {sentence}")


def _judged(error: Exception, url: str) -> _Verdict:
    code, said = _said(error)
    for judge in (_by_place, _by_code, _by_kind, _by_text):
        if verdict := judge(error, code, said, url):
            return verdict
    return _Verdict(f"{url}: not stored ({said})")


def _by_place(error: Exception, _code: str, said: str, url: str) -> _Verdict | None:
    """What did not come from the store's server: the disk, the client, the machine's own service."""
    if url.startswith("file:") and isinstance(error, OSError | BaseError):
        return _Verdict(f"cannot write to {url} ({said}): choose a folder that can be written", final=True)
    if isinstance(error, UnknownConfigurationKeyError):
        return _Verdict(
            f"unknown option ({said}): see object_store's names for this kind of store", final=True
        )
    if _PROVIDER in said:
        return _Verdict(
            f"the profile gives no credentials for {url} ({said.partition(_PROVIDER)[2]}): see whether AWS's"
            " own tools get some with it; single sign-on may want a new login"
        )
    if _MACHINE.search(str(error)):
        way = (
            "set access_key_id, the environment's AWS_ variables, or the pod's role"
            if url.startswith("s3")
            else "set them in options, in the environment, or as the pod's identity"
        )
        return _Verdict(
            f"no credentials for {url} ({said}): {way}", final=not _SERVER_TROUBLE.search(str(error))
        )
    if url.startswith("s3") and _NOT_OURS.search(str(error)):
        return _Verdict(
            f"no credentials for {url} ({said}): see the role's trust in this pod, and the environment's AWS_"
            " variables",
            final=bool(_CLIENT_AT_FAULT.search(str(error))),
        )
    return None


def _by_code(error: Exception, code: str, said: str, url: str) -> _Verdict | None:
    if code in _KEYS:
        return _Verdict(
            f"the credentials for {url} are refused ({said}): check access_key_id and secret_access_key",
            final=True,
        )
    if code in _EXPIRED:
        return _Verdict(f"the credentials for {url} have expired ({said}): give new ones")
    if code in _CLOCK:
        return _Verdict(f"{url}: this machine's clock is wrong ({said}): set it")
    if code in _NO_BUCKET:
        return _Verdict(f"no such bucket: {url} ({said}): create it, or correct url and endpoint", final=True)
    if code in _REGION or "redirect without LOCATION" in str(error):
        return _Verdict(f"{url} is in another region ({said}): correct region", final=True)
    return None


def _by_kind(error: Exception, code: str, said: str, url: str) -> _Verdict | None:
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code == "AccessDenied":
        return _Verdict(
            f"{url} may not be written ({said}): grant s3:PutObject, or check the key", final=True
        )
    if isinstance(error, FileNotFoundError):
        return _Verdict(f"no such bucket: {url} ({said}): create it, or correct url and endpoint", final=True)
    if isinstance(error, AlreadyExistsError):
        return _Verdict(f"{url}: another upload of the same object is under way ({said})")
    if isinstance(error, ValueError):  # before any request: what was configured cannot be used
        return _Verdict(f"{url}: {said}: correct the settings", final=True)
    if isinstance(error, NotImplementedError):
        return _Verdict(f"{url}: the store cannot create objects ({said}): use another", final=True)
    return None


def _by_text(error: Exception, _code: str, said: str, url: str) -> _Verdict | None:
    if "certificate" in said.lower():
        return _Verdict(f"{url}: the server's certificate is not trusted ({said}): set ca_file", final=True)
    if "builder error" in str(error):
        return _Verdict(
            f"{url}: the endpoint is without TLS ({said}): use https://, or set allow_http = true", final=True
        )
    if "error sending request" in str(error) or "timed out" in said.lower():
        return _Verdict(f"{url} cannot be reached ({said}): is the server up, and endpoint right?")
    if "Error performing" not in str(error):
        return _Verdict(f"{url}: {said}: correct the settings", final=True)
    return None


def is_stored(error: AlreadyExistsError) -> bool:
    """Whether there really is an object of this name.

    obstore makes the same error of every 409. S3 answers that while another upload of the object is under
    way, such as one whose client has gone: it may still come to nothing, so it must be asked again.
    """
    text = str(error)
    return "status code: 409" not in text or _said(error)[0] == "BlobAlreadyExists"


def _said(error: Exception) -> tuple[str, str]:
    """The server's code, and what is worth telling of the error: never the client's whole inside."""
    text, _, inside = str(error).partition("\n\nDebug source:")
    code, message = _CODE.search(str(error)), _MESSAGE.search(str(error))
    if code:
        told = f"{code[1]}: {html.unescape(message[1])}" if message else code[1]
        return code[1], told[:_MOST_TEXT]
    causes = [found for pattern in _CAUSES for found in pattern.findall(inside)]
    text = " ".join(text.removeprefix("Generic ").split())
    if request := _REQUEST.match(text):
        text = f"{request[1]}: {request[2].removeprefix('HTTP error: ')}"
    text = text[:_MOST_TEXT]
    return "", f"{text}: {causes[-1]}" if causes and causes[-1] not in text else text
