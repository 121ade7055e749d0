"""`${NAME}` and `${file:…}`: filled in everywhere, remembered as what they are, refused with their place."""

import pytest

from kexport.errors import ConfigError
from kexport.variables import fill_in


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("KX_PASSWORD", "hunter2")
    monkeypatch.setenv("KX_HOST", "kafka.example")
    monkeypatch.setenv("KX_EMPTY", "")
    monkeypatch.delenv("KX_UNSET", raising=False)


def test_a_variable_is_replaced_at_any_depth():
    document = {"sinks": {"a": {"users": ["x", {"password": "${KX_PASSWORD}"}]}}}
    assert fill_in(document, {}) == {"sinks": {"a": {"users": ["x", {"password": "hunter2"}]}}}


def test_several_variables_in_one_text_are_replaced():
    assert fill_in("sasl://u:${KX_PASSWORD}@${KX_HOST}/", {}) == "sasl://u:hunter2@kafka.example/"


def test_each_value_is_remembered_by_its_name():
    secrets: dict[str, str] = {}
    fill_in(["${KX_PASSWORD}", "${KX_HOST}"], secrets)
    assert secrets == {"hunter2": "${KX_PASSWORD}", "kafka.example": "${KX_HOST}"}


def test_a_text_without_variables_is_no_secret():
    secrets: dict[str, str] = {}
    assert fill_in({"a": "plain $NAME {x}", "n": 1, "b": True}, secrets) == {
        "a": "plain $NAME {x}",
        "n": 1,
        "b": True,
    }
    assert secrets == {}


def test_an_empty_value_is_filled_in_but_hides_nothing():
    secrets: dict[str, str] = {}
    assert fill_in("<${KX_EMPTY}>", secrets) == "<>"
    assert secrets == {}


def test_a_value_is_not_looked_into_for_more_variables(monkeypatch):
    monkeypatch.setenv("KX_PASSWORD", "${KX_HOST}")
    assert fill_in("${KX_PASSWORD}", {}) == "${KX_HOST}"


def test_a_file_is_read_without_the_newline_at_its_end(tmp_path):
    (tmp_path / "password").write_text("s3cr3t\n", encoding="utf-8")
    secrets: dict[str, str] = {}
    assert fill_in(f"${{file:{tmp_path}/password}}", secrets) == "s3cr3t"
    assert secrets == {"s3cr3t": f"${{file:{tmp_path}/password}}"}


def test_a_files_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "password").write_text("s3cr3t", encoding="utf-8")
    assert fill_in("${file:~/password}", {}) == "s3cr3t"


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"sinks": {"a": {"password": "${KX_UNSET}"}}}, "sinks.a.password"),
        ({"sinks": {"a": {"servers": ["x", "${KX_UNSET}"]}}}, "sinks.a.servers[1]"),
        ({"resources": [{"resource": "${KX_UNSET}"}]}, "resources[0].resource"),
    ],
)
def test_an_unset_variable_is_refused_with_place_name_and_way_out(document, place):
    with pytest.raises(ConfigError) as caught:
        fill_in(document, {})
    assert str(caught.value) == f"{place}: the environment has no variable KX_UNSET; set it"


def test_a_missing_file_is_refused_with_place_and_path(tmp_path):
    with pytest.raises(ConfigError) as caught:
        fill_in({"a": {"b": f"${{file:{tmp_path}/missing}}"}}, {})
    assert str(caught.value).startswith(f"a.b: cannot read ${{file:{tmp_path}/missing}}: ")


def test_a_file_that_is_no_text_is_refused_without_its_content(tmp_path):
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00secret")
    with pytest.raises(ConfigError, match="a: cannot read") as caught:
        fill_in({"a": f"${{file:{tmp_path}/key}}"}, {})
    assert "secret" not in str(caught.value)
