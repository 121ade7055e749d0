"""The settings: what is refused before anything starts, and what the README says of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import kexport_webhook
import msgspec
import pytest
from kexport_webhook.config import WebhookConfig

from kexport import ConfigError
from kexport.testing import make_context

from .webhook_arrangement import Endpoint, build, events, opened

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
ENGINES = {"type", "batch", "retry", "timeout_seconds", "rejects_to"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "hooks.example.org"}, r"sinks\.audit\.url: must begin with http"),
        ({"url": "ftp://s3cret"}, "must begin with http"),
        ({"url": "http://h:s3cret"}, "url: is no URL"),
        ({"url": "https://ann:s3cret@h"}, "give headers an authorization"),
        ({"headers": {"a b": "s3cret"}}, "'a b' is no name of a header"),
        ({"headers": {"a": "s3cret\r\nx: y"}}, "the value of a has a line break"),
        ({"headers": {"Content-Type": "s3cret"}}, "Content-Type is the sink's own"),
        ({"headers": {"CE-id": "s3cret"}}, "CE-id is the sink's own"),
        ({"headers": {"webhook-id": "s3cret"}}, "webhook-id is the sink's own"),
        ({"key_file": "k"}, "key_file without cert_file"),
        ({"ca_file": "c", "url": "http://h"}, "https://"),
        ({"signing_secret": "whsec_s3cret!"}, r"signing_secret: must be whsec_ and the base64"),
        ({"signing_secret": "whsec_czNjcmV0"}, "24 to 64 random bytes"),
        ({"signing_secret": SECRET, "mode": "binary"}, 'set mode = "structured"'),
    ],
)
def test_settings_that_cannot_work_are_refused_when_building(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        build(**{"url": "https://hooks.example.org", **settings})
    assert "s3cret" not in str(refused.value)


async def test_method_and_headers_are_those_of_the_settings() -> None:
    async with (
        Endpoint().running() as endpoint,
        opened(endpoint, method="PUT", headers={"x-scope": "a"}) as sink,
    ):
        await sink.write(events(1, 1))
        (request,) = endpoint.requests
    assert (request.method, request.headers["x-scope"]) == ("PUT", "a")


def test_the_plugin_registers_its_sink_type() -> None:
    (kind,) = kexport_webhook.kexport_sinks()
    assert kind.name == "webhook"
    assert kind.config is WebhookConfig


def test_settings_are_not_shown() -> None:
    settings: dict[str, Any] = {"headers": {"a": "s3cret"}, "signing_secret": SECRET}
    config = WebhookConfig(url="https://h/s3cret", **settings)
    shown = repr(config) + repr(build("https://h/s3cret", **settings))
    assert "s3cret" not in shown
    assert SECRET not in shown


def test_the_readme_has_every_setting_with_its_default_and_description() -> None:
    table = README.split("## Settings")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", table, flags=re.MULTILINE))
    fields = msgspec.json.schema(WebhookConfig)["$defs"]["WebhookConfig"]
    assert list(rows) == list(fields["properties"])
    for name, each in fields["properties"].items():
        choices = f" One of {', '.join(f'`{choice}`' for choice in each['enum'])}." if "enum" in each else ""
        default = (
            "required" if name in fields["required"] else f"`{msgspec.json.encode(each['default']).decode()}`"
        )
        assert rows[name] == f"{default} | {each['description']}{choices}"


def test_the_configurations_in_the_readme_build_a_sink() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) > 1
    for block in blocks:
        document = tomllib.loads(re.sub(r"\$\{[^}]+\}", SECRET, block))
        for name, table in document["sinks"].items():
            assert table["type"] == "webhook"
            own = {key: value for key, value in table.items() if key not in ENGINES}
            config = msgspec.convert(own, WebhookConfig)
            kexport_webhook.webhook_sink.build(config, make_context(name))
