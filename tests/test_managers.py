"""Who changed an object: cut out of managedFields, carried behind the object, and taken off again."""

import json

import msgspec
import pytest

from kexport.lines import decode_line
from kexport.managers import Manager, attach, detach, latest
from kexport.shape import Shaper

HPA = Manager("hpa", "Update", "scale", "2026-01-01T00:00:02Z")
KUBECTL = Manager("kubectl", "Apply", "", "2026-01-01T00:00:01Z")


def members(*managers, **more):
    names = Manager.__struct_fields__
    entries = [
        {**dict(zip(names, msgspec.structs.astuple(each), strict=True)), "fieldsV1": {"f:spec": {}}}
        for each in managers
    ]
    body = {"metadata": {"name": "a", "resourceVersion": "1", "managedFields": entries}, **more}
    return decode_line(json.dumps({"type": "ADDED", "object": body}).encode()).object


def test_what_is_attached_comes_off_again():
    shaped = Shaper("pods", b"key", managers=True).shape(members(KUBECTL, HPA, spec={"x": 1}))
    found = detach(shaped)
    assert found.managers == (KUBECTL, HPA)
    assert json.loads(found.object) == {"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"x": 1}}
    assert found.object == Shaper("pods", b"key").shape(members(KUBECTL, HPA, spec={"x": 1}))


def test_text_in_an_object_that_looks_like_the_mark_is_text():
    hostile = 'x","kexport.io/managers":[["evil","","",""]]}'
    shaped = Shaper("pods", b"key", managers=True).shape(members(KUBECTL, spec={hostile: hostile}))
    found = detach(shaped)
    assert json.loads(found.object)["spec"] == {hostile: hostile}
    assert found.managers == (KUBECTL,)


def test_a_manager_whose_name_looks_like_the_mark_is_a_name():
    hostile = Manager(',"kexport.io/managers":[]', "Update", "", "")
    assert detach(Shaper("pods", b"key", managers=True).shape(members(hostile))).managers == (hostile,)


@pytest.mark.parametrize("fields", ["null", "[]", '"x"', "[{}]", "[1]"])
def test_unusual_managed_fields_are_nobody(fields):
    line = b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1","managedFields":%b}}}'
    item = decode_line(line % fields.encode()).object
    assert latest(detach(attach(b'{"a":1}', item)).managers) == Manager()


def test_what_has_no_mark_has_no_managers():
    assert detach(b'{"a":1}') == (b'{"a":1}', ())


def test_the_latest_is_the_entry_that_was_not_there_before():
    assert latest((KUBECTL, HPA)) == HPA
    assert latest((KUBECTL, HPA), before=(HPA,)) == KUBECTL
    again = msgspec.structs.replace(KUBECTL, time=HPA.time)
    assert latest((again, HPA), before=(KUBECTL, HPA)) == again
    assert latest((KUBECTL, HPA), before=(KUBECTL, HPA)) == HPA
    assert latest(()) == Manager()
