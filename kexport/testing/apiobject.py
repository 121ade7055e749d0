"""The verbs on single objects, and the deletion of whole collections: bodies in, stored objects out."""

from typing import Any

import msgspec
from aiohttp import web

from kexport.testing import apilist, apioptions
from kexport.testing.access import Address
from kexport.testing.failure import ApiFailure, bad_request
from kexport.testing.kinds import PODS, Resource
from kexport.testing.registry import Registry
from kexport.testing.replica import Replica
from kexport.testing.settings import Settings
from kexport.testing.store import Entry

Object = dict[str, Any]

_MERGE_PATCH = "application/merge-patch+json"


def manager_of(request: web.BaseRequest) -> str:
    """Return the name that managedFields shows for a client: what its User-Agent says before the version."""
    return request.headers.get("User-Agent", "unknown").split("/")[0]


async def read_body(request: web.BaseRequest, resource_kind: str) -> Object:
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        what = f"(must be of type {resource_kind}): couldn't get version/kind; json parse error: {error}"
        raise bad_request(f"the object provided is unrecognized {what}") from None
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {resource_kind})")
    return body


async def write(
    request: web.BaseRequest, verb: str, resource: Resource, address: Address, registry: Registry
) -> tuple[int, Entry]:
    """Do a create, update or patch, and return the status code with what is stored now."""
    if verb == "patch" and request.content_type != _MERGE_PATCH:
        # The real server also takes JSON patches, strategic merge patches and server-side apply.
        raise ApiFailure(415, "415: Unsupported Media Type", details={})
    body = await read_body(request, resource.kind)
    manager = manager_of(request)
    if verb == "create":
        return 201, registry.create(resource, address.namespace, body, manager=manager)
    change = registry.update if verb == "update" else registry.patch
    entry = change(
        resource,
        address.namespace,
        body,
        name=address.name,
        manager=manager,
        subresource=address.subresource,
    )
    return 200, entry


async def delete(request: web.BaseRequest, resource: Resource, address: Address, registry: Registry) -> bytes:
    options = await _delete_options(request)
    entry, gone = registry.delete(resource, address.namespace, address.name, options)
    if not gone or resource is PODS:
        return entry.body(resource) + b"\n"
    details = {"name": address.name, "group": resource.group, "kind": resource.plural}
    present = {key: value for key, value in details.items() if value}
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": present | {"uid": entry.object["metadata"]["uid"]},
    }
    return msgspec.json.encode(status) + b"\n"


async def delete_collection(
    request: web.BaseRequest,
    resource: Resource,
    address: Address,
    registry: Registry,
    *,
    replica: Replica,
    settings: Settings,
) -> bytes:
    options = await _delete_options(request)
    selected = apioptions.read(request.query, resource, settings)
    page = await apilist.read_page(replica, resource, address.namespace, selected, settings)
    for entry in page.entries:
        metadata = entry.object["metadata"]
        registry.delete(resource, metadata.get("namespace", ""), metadata["name"], options)
    return apilist.encode(page, resource, metadata_only=False)


async def _delete_options(request: web.BaseRequest) -> Object:
    options = await read_body(request, "DeleteOptions")
    if (grace := request.query.get("gracePeriodSeconds")) is not None:
        options["gracePeriodSeconds"] = int(grace)
    return options
