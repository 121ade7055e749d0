"""What the sinks of both migrations have in common: secrets, TLS, and what stands in for a missing sink."""

from __future__ import annotations

import re

from kexport.draft import Table
from kexport.foreign import Value

_SECRET = re.compile(r"auth|key|token|secret|password|cookie|credential", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{[^}]+\}")


def add_secret(table: Table, value: Value, variable: str) -> str:
    """A secret as `${NAME}`: one that stands in the file in clear is not copied."""
    text = value.text()
    if not text or _VARIABLE.search(text):
        return text
    table.note(value, f"a secret in clear, which is not copied: put it into the environment as {variable}")
    return f"${{{variable}}}"


def add_headers(table: Table, headers: Value | None, name: str) -> None:
    """The headers; what is called like a secret is handled as one."""
    if headers is None:
        return
    given: dict[str, str | bool | int | float] = {}
    for header, value in headers.table().items():
        variable = re.sub(r"\W+", "_", f"{name}_{header}", flags=re.ASCII).upper().strip("_")
        given[header] = add_secret(table, value, variable) if _SECRET.search(header) else value.text()
    table.set("headers", given)


def add_tls(table: Table, tls: Value, *, ca: str, cert: str, key: str) -> None:
    """The three files of a TLS client."""
    for foreign, setting in ((ca, "ca_file"), (cert, "cert_file"), (key, "key_file")):
        if (value := tls.get(foreign)) and (path := value.text()):
            table.set(setting, path)


def stand_in(table: Table, value: Value, name: str, kind: str, instead: str) -> None:
    """A file that keeps what a sink would get that kexport does not have."""
    table.remark(
        value,
        f"kexport has no sink for {kind}: this file stands in, so that routes stay as they are and nothing is"
        f" missed. Instead: {instead}",
    )
    table.set("type", "file")
    table.set("path", f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}.jsonl")
    table.set("rotate_bytes", 100 * 1024 * 1024)
    table.set("keep_files", 10)
