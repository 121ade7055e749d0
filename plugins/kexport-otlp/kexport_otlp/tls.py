"""Certificate files -> what a client needs of them; both protocols read them here, at each new line."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from kexport_otlp.config import OtlpConfig
from kexport_otlp.verdict import MisconfiguredError


class Pem(NamedTuple):
    """The bytes that gRPC wants; None: its own authorities, no certificate of ours."""

    authorities: bytes | None
    key: bytes | None
    certificate: bytes | None


def load_context(config: OtlpConfig, *, place: str) -> ssl.SSLContext:
    """Read the files; one that can't be used may be in the middle of being replaced."""
    setting = "ca_file"
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
        setting = "key_file" if config.key_file else "cert_file"
        if config.cert_file:
            # An empty password, else OpenSSL asks at the terminal for that of an encrypted key.
            context.load_cert_chain(config.cert_file, config.key_file or None, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _unusable(error, setting=setting, place=place) from error
    return context


def load_pem(config: OtlpConfig, *, place: str) -> Pem:
    """The same for gRPC, which takes the files' bytes and says little about bad ones: tried out before."""
    context = load_context(config, place=place)
    setting = "ca_file"
    try:
        authorities = Path(config.ca_file).read_bytes() if config.ca_file else _system(context)
        setting = "cert_file"
        certificate = Path(config.cert_file).read_bytes() if config.cert_file else None
        setting = "key_file"
        key = Path(config.key_file).read_bytes() if config.key_file else certificate
    except OSError as error:
        raise _unusable(error, setting=setting, place=place) from error
    return Pem(authorities, key, certificate)


def _system(context: ssl.SSLContext) -> bytes | None:
    """The system's authorities, where they are in one file; gRPC would take a list of its own."""
    found = context.get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None


def _unusable(error: Exception, *, setting: str, place: str) -> MisconfiguredError:
    reason = getattr(error, "strerror", None) or error
    return MisconfiguredError(f"{place}.{setting}: cannot be used ({reason}): correct it")
