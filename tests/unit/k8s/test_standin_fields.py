"""The stand-in's server-side apply: who has which field, what conflicts, what goes when its last owner drops it."""

from __future__ import annotations

import copy

import pytest

from jupiter_agent.bench.kube import fields
from jupiter_agent.bench.kube.store import StatusError, Store

KEY = ("configmaps", "default", "x")


def body(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


@pytest.fixture
def store():
    found = Store()
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    found.create(("namespaces", "", "default"), namespace)
    return found


def data(store):
    return store.get(*KEY).get("data")


def test_a_field_of_another_manager_with_another_value_is_a_conflict_unless_forced(store):
    store.create(KEY, body(a="1", b="1"), "kubectl")
    with pytest.raises(StatusError, match=r'1 conflicts: conflict with "kubectl": .data.a') as caught:
        store.apply(KEY, body(a="2"), "us", force=False)
    assert (caught.value.code, data(store)) == (409, {"a": "1", "b": "1"})
    store.apply(KEY, body(a="2"), "us", force=True)
    assert data(store) == {"a": "2", "b": "1"}
    store.apply(KEY, body(), "us", force=False)
    assert data(store) == {"b": "1"}, "the force took it from kubectl"


def test_what_nobody_else_says_otherwise_is_adopted_without_a_conflict(store):
    """Why an object is not made by an apply: it would take one of somebody else's for its own."""
    store.create(KEY, body(a="1"), "kubectl")
    store.apply(KEY, body(a="1", b="2"), "us", force=False)
    assert data(store) == {"a": "1", "b": "2"}
    store.apply(KEY, body(), "us", force=False)
    assert data(store) == {"a": "1"}


def test_what_was_made_by_a_post_stays_its_makers_even_when_he_applies_it_later_without_a_field(store):
    """Why our commands enter what they have made as applied."""
    store.create(KEY, body(a="1", b="1"), "us")
    store.apply(KEY, body(a="1"), "us", force=True)
    assert data(store) == {"a": "1", "b": "1"}
    operations = {each["operation"] for each in store.get(*KEY)["metadata"]["managedFields"]}
    assert operations == {"Apply", "Update"}


def test_elements_of_a_keyed_list_belong_to_who_named_them():
    def pod(*env, **more):
        spec = {"containers": [{"name": "a", "env": [{"name": name, "value": value} for name, value in env]}], **more}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}

    made = copy.deepcopy(pod(("X", "1")))
    fields.created(made, "kubectl")
    after, conflicts = fields.applied(made, pod(("Y", "2"), hostNetwork=True), "us", force=False)
    assert conflicts == []
    assert after["spec"]["containers"][0]["env"] == [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]
    after, _ = fields.applied(after, pod(), "us", force=False)
    assert after["spec"] == pod(("X", "1"))["spec"]
    _, conflicts = fields.applied(after, pod(("X", "3")), "us", force=False)
    assert conflicts == ['conflict with "kubectl": .spec.containers[{"name":"a"}].env[{"name":"X"}].value']


def test_a_json_patch_of_an_object_that_has_changed_is_refused(store):
    made = store.create(KEY, body(a="1"), "us")
    version = {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]}
    store.update(KEY, lambda after: after["data"].update(b="2"))
    with pytest.raises(StatusError, match="has been modified"):
        store.patch(KEY, [version], "us")


def test_what_is_said_of_fields_is_read_back_as_it_was_written(store):
    made = store.create(KEY, body(a="1"), "us")
    assert fields.owners(made) == {("us", "Update"): {("f:data", "f:a")}}
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:a": {}}}
