"""The HTTP side of the fake API server: who is let in, what a path means, and which handler answers it."""

from collections import deque
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from kexport.testing import apidiscovery, apilist, apiobject, apioptions, apireply, apiwatch
from kexport.testing.access import Access, Address
from kexport.testing.balancer import Balancer
from kexport.testing.failure import ApiFailure, no_resource, not_found
from kexport.testing.faults import Faults
from kexport.testing.kinds import Resource
from kexport.testing.registry import Registry
from kexport.testing.replica import Replica
from kexport.testing.settings import Settings
from kexport.testing.store import Entry

_REMEMBERED_REQUESTS = 10_000
_REVIEWS = ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]
_NOT_ACCEPTABLE = (
    f"406: Not Acceptable\n\nAvailable representations: {apireply.JSON}, {apireply.JSON};stream=watch"
)


class Request(NamedTuple):
    """A request that came in, as tests like to ask for it."""

    method: str
    path: str
    """Path and query, as they were sent."""


class ApiServer:
    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.access = Access(settings)
        self.faults = Faults()
        self.balancer = Balancer(registry.replicas, settings)
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._registry = registry
        self._settings = settings

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(Request(request.method, request.path_qs))
        await self.faults.passed(request.path_qs)
        try:
            response = await self._respond(request)
        except ApiFailure as failure:
            response = apireply.refusal(failure)
        except web.HTTPRequestEntityTooLarge:
            response = apireply.refusal(ApiFailure(413, "Request entity too large: limit is 3145728"))
        await self.faults.passed(request.path_qs)
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = [segment for segment in request.path.split("/") if segment]
        address = _address(segments)
        fault = self.faults.strike(_verb_if_any(request, address), request.path_qs)
        if fault and (scripted := await fault.play(request)) is not None:
            return scripted
        self.access.authenticate(request.headers.get("Authorization", ""))
        return await self._route(request, segments, address)

    async def _route(
        self, request: web.BaseRequest, segments: list[str], address: Address | None
    ) -> web.StreamResponse:
        if segments in (["readyz"], ["livez"], ["healthz"]):
            return web.Response(text="ok")
        if segments == ["version"]:
            return apireply.json(_version(self._settings.version))
        if segments == _REVIEWS and request.method == "POST":
            return apireply.json(
                self.access.review(await apiobject.read_body(request, "SelfSubjectAccessReview")), 201
            )
        if self._down(segments):
            return apireply.unavailable()
        if address is None:
            return self._discover(request, segments)
        return await self._serve(request, address)

    def _down(self, segments: list[str]) -> bool:
        """Tell whether the aggregation layer would hand a request on to an API server that is not there."""
        match segments:
            case ["apis", group, version, *_] if group in self._registry.unavailable:
                return any((each.group, each.version) == (group, version) for each in self._registry)
        return False

    def _discover(self, request: web.BaseRequest, segments: list[str]) -> web.Response:
        discovery = apidiscovery.Discovery(list(self._registry), self._registry.unavailable)
        if segments in (["api"], ["apis"]) and self._settings.aggregated_discovery:
            accepted = [form.replace(" ", "") for form in request.headers.get("Accept", "").split(",")]
            if apidiscovery.AGGREGATED in accepted:
                body = msgspec.json.encode(discovery.aggregated(segments[0]))
                return web.Response(
                    body=body, headers={"Content-Type": apidiscovery.AGGREGATED, "Vary": "Accept"}
                )
        document = discovery.document(segments, request.host)
        if document is not None:
            return apireply.json(document)
        if segments[:1] == ["apis"] and discovery.builds_in("".join(segments[1:2])):
            raise no_resource()
        return apireply.not_found()

    async def _serve(self, request: web.BaseRequest, address: Address) -> web.StreamResponse:
        verb = _verb(request, address)
        self.access.authorize(verb, _selected(request, address))
        resource = self._registry.find(address.group, address.version, address.plural)
        if resource is None and not apidiscovery.Discovery(list(self._registry)).builds_in(address.group):
            return apireply.not_found()
        if resource is None or not _addressable(resource, address):
            raise no_resource()
        if verb not in resource.verbs:
            message = "the server does not allow this method on the requested resource"
            raise ApiFailure(405, message, details={})
        if verb in ("list", "watch"):
            return await self._read_collection(request, resource, address)
        return await self._read_or_write(request, verb, resource, address)

    async def _read_collection(
        self, request: web.BaseRequest, resource: Resource, address: Address
    ) -> web.StreamResponse:
        options = apioptions.read(request.query, resource, self._settings)
        form = _negotiate(request)
        metadata_only = form != ""
        if options.watch:
            if form == "PartialObjectMetadataList":  # the real one fails at the first event, after status 200
                return web.Response(content_type=apireply.JSON)
            watching = apiwatch.Watching(
                request=request,
                replica=self._replica(request),
                settings=self._settings,
                faults=self.faults,
                options=options,
            )
            watcher = apiwatch.new_watcher(
                resource, address.namespace, options, self._settings, metadata_only=metadata_only
            )
            return await apiwatch.stream(watching, watcher)
        if form == "PartialObjectMetadata":
            message = f"you requested {form}, but the requested object is a list (*core.{resource.listing})"
            raise ApiFailure(406, message)
        replica = self._replica(request)
        page = await apilist.read_page(replica, resource, address.namespace, options, self._settings)
        return apireply.read(request, apilist.encode(page, resource, metadata_only=metadata_only))

    def _replica(self, request: web.BaseRequest) -> Replica:
        return self.balancer.pick(request.transport)

    async def _read_or_write(
        self, request: web.BaseRequest, verb: str, resource: Resource, address: Address
    ) -> web.StreamResponse:
        metadata_only = _negotiate(request) != ""
        if verb == "get":
            entry = await self._get(request, resource, address)
            return apireply.read(request, entry.body(resource, metadata_only=metadata_only) + b"\n")
        if verb == "delete":
            return apireply.body(await apiobject.delete(request, resource, address, self._registry))
        if verb == "deletecollection":
            deleted = await apiobject.delete_collection(
                request,
                resource,
                address,
                self._registry,
                replica=self._replica(request),
                settings=self._settings,
            )
            return apireply.body(deleted)
        if resource.namespaced and not address.namespace:
            raise not_found(resource, address.name)
        status, entry = await apiobject.write(request, verb, resource, address, self._registry)
        return apireply.body(entry.body(resource, metadata_only=metadata_only) + b"\n", status)

    async def _get(self, request: web.BaseRequest, resource: Resource, address: Address) -> Entry:
        """Read one object: at a version from the watch cache, which may lag; else from etcd."""
        wanted = request.query.get("resourceVersion")
        replica = self._replica(request)
        if not wanted or replica.initializing:
            return self._registry.get(resource, address.namespace, address.name)
        await replica.fresh(resource, int(wanted))
        key = resource.key(address.namespace, address.name)
        entry = replica.store.read(resource, key, replica.at(resource))
        if entry is None:
            raise not_found(resource, address.name)
        return entry


def _address(segments: list[str]) -> Address | None:
    """Read a path below a version; None for paths that discovery answers."""
    match segments:
        case ["api", version, _, *_]:
            group, rest = "", segments[2:]
        case ["apis", group, version, _, *_]:
            rest = segments[3:]
        case _:
            return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return Address(group, version, plural, namespace=namespace, name=name, subresource=subresource)


def _addressable(resource: Resource, address: Address) -> bool:
    if address.subresource and not (address.subresource == "status" and resource.has_status):
        return False
    return resource.namespaced or not address.namespace


def _verb(request: web.BaseRequest, address: Address) -> str:
    if request.method == "GET" and not address.name:
        return "watch" if request.query.get("watch") in ("1", "true") else "list"
    verbs = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch"}
    if request.method == "DELETE":
        return "delete" if address.name else "deletecollection"
    if (request.method == "POST") == bool(address.name) or request.method not in verbs:
        raise ApiFailure(405, "the server does not allow this method on the requested resource", details={})
    return verbs[request.method]


def _verb_if_any(request: web.BaseRequest, address: Address | None) -> str:
    if address is None:
        return "get"
    try:
        return _verb(request, address)
    except ApiFailure:
        return ""


def _selected(request: web.BaseRequest, address: Address) -> Address:
    """Add the name that a fieldSelector asks for: authorization sees it as part of the request."""
    selector = request.query.get("fieldSelector", "")
    if address.name or not selector.startswith("metadata.name=") or "," in selector:
        return address
    name = selector.removeprefix("metadata.name=").lstrip("=")
    return Address(address.group, address.version, address.plural, namespace=address.namespace, name=name)


def _negotiate(request: web.BaseRequest) -> str:
    """Return the kind that the Accept header asks for; nothing stands for whole objects."""
    accepted = request.headers.get("Accept", "*/*")
    for clause in accepted.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        named = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if media in (apireply.JSON, "application/*", "*/*") and "as" not in named:
            return ""
        partial = ("PartialObjectMetadata", "PartialObjectMetadataList")
        if (
            media == apireply.JSON
            and named["as"] in partial
            and named.get("g") == "meta.k8s.io"
            and named.get("v") == "v1"
        ):
            return named["as"]
    raise ApiFailure(406, _NOT_ACCEPTABLE, details={})


def _version(git_version: str) -> dict[str, Any]:
    major, minor, *_ = git_version.removeprefix("v").split(".")
    return {"major": major, "minor": minor, "gitVersion": git_version, "platform": "kexport/testing"}
