"""Who may do what: the fake's token check and its denials, which stand for RBAC rules that are missing."""

from dataclasses import dataclass
from typing import Any

from kexport.testing.failure import ApiFailure, unauthorized
from kexport.testing.settings import Settings

Object = dict[str, Any]
EVERYTHING = "*"


@dataclass(frozen=True)
class Address:
    """Where in the API a request goes, before anybody knows whether that exists."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def path(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


class Access:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._denied: set[tuple[str, str, str | None]] = set()

    def deny(self, verb: str, resource: str, namespace: str | None) -> None:
        self._denied.add((verb, resource, namespace))

    def allow(self, verb: str, resource: str, namespace: str | None) -> None:
        """Take denials back: those of this verb and resource, or all that a `*` covers."""
        wanted = (verb, resource, namespace)
        self._denied = {
            denial
            for denial in self._denied
            if not all(
                ours in (EVERYTHING, None, theirs) for ours, theirs in zip(wanted, denial, strict=True)
            )
        }

    def allows(self, verb: str, resource: str, namespace: str) -> bool:
        return not any(
            denied_verb in (EVERYTHING, verb)
            and denied_resource in (EVERYTHING, resource)
            and denied_namespace in (None, namespace)
            for denied_verb, denied_resource, denied_namespace in self._denied
        )

    def authenticate(self, authorization: str) -> None:
        token = self._settings.token
        if token is not None and authorization != f"Bearer {token}":
            raise unauthorized()

    def authorize(self, verb: str, address: Address) -> None:
        if self.allows(verb, address.resource, address.namespace):
            return
        where = f'in the namespace "{address.namespace}"' if address.namespace else "at the cluster scope"
        what = f'cannot {verb} resource "{address.path}" in API group "{address.group}" {where}'
        quoted = f' "{address.name}"' if address.name else ""
        details = {"name": address.name, "group": address.group, "kind": address.plural}
        raise ApiFailure(
            403,
            f'{address.resource}{quoted} is forbidden: User "{self._settings.user}" {what}',
            details={key: value for key, value in details.items() if value},
        )

    def review(self, body: Object) -> Object:
        """Answer a SelfSubjectAccessReview as `kubectl auth can-i` asks it."""
        wanted = body.get("spec", {}).get("resourceAttributes", {})
        group, plural = wanted.get("group", ""), wanted.get("resource", "")
        resource = f"{plural}.{group}" if group else plural
        allowed = self.allows(wanted.get("verb", ""), resource, wanted.get("namespace", ""))
        return {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": body.get("spec", {}),
            "status": {"allowed": allowed},
        }
