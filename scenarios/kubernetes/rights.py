#!/usr/bin/env python3
"""Holds the rights of a service account to what it really asked of the API server.

    scenarios/kubernetes/rights.py --account isthmus-system/control --objects RENDERED.yaml METRICS...
    scenarios/kubernetes/rights.py --self-test

The rights are those of rendered objects: Roles, ClusterRoles and their bindings, as `helm template` prints them, or
`kubectl get -o json`. What was asked is in `isthmus_kubernetes_requests_total` of each replica's metrics. Ends with 1 if
a right was used by nothing, or a call was refused.

The counts know no names and no namespaces: a right that holds for some names alone counts as used by a call of any."""

import argparse
import collections
import json
import pathlib
import re
import sys
import unittest

METRIC = "isthmus_kubernetes_requests_total"

# What somebody asked, and how often: by verb, group and resource; a resource has its subresource behind a slash.
Call = collections.namedtuple("Call", "verb group resource code count")
# A single right, and where it is given: `ClusterRole isthmus-control, rule 3`.
Right = collections.namedtuple("Right", "verb group resource names where")


def calls(text):
    """The calls that metrics tell of."""
    found = []
    for labels, count in re.findall(rf"^{METRIC}{{(.*)}} (\d+)", text, re.MULTILINE):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        resource = "/".join(part for part in (label["resource"], label["subresource"]) if part)
        found.append(Call(label["verb"], label["group"], resource, label["code"], int(count)))
    return found


def documents(text):
    """The objects of a text of YAML or JSON, those in lists too."""
    if text.lstrip().startswith("{"):
        whole = [json.loads(text)]
    else:
        import yaml

        whole = [document for document in yaml.safe_load_all(text) if document]
    return [item for one in whole for item in (one["items"] if one["kind"].endswith("List") else [one])]


def rights(objects, namespace, account):
    """The rights that objects give to a service account, each by itself."""
    roles = {(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")): one for one in objects}
    found = []
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    bindings = [one for one in objects if one["kind"].endswith("RoleBinding")]
    for binding in bindings:
        if not any(subject.items() <= one.items() for one in binding.get("subjects") or ()):
            continue
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        role = roles.get((kind, name, None if kind == "ClusterRole" else binding["metadata"].get("namespace")))
        if role is None:
            giver = f"{binding['kind']} {binding['metadata']['name']}"
            raise KeyError(f"{kind} {name}, which {giver} gives, is not among the objects")
        for number, rule in enumerate(role.get("rules") or (), 1):
            names = tuple(rule.get("resourceNames", ()))
            found += [
                Right(verb, group, resource, names, f"{kind} {name}, rule {number}")
                for group in rule.get("apiGroups", ())
                for resource in rule.get("resources", ())
                for verb in rule["verbs"]
            ]
    return found


def covers(right, call):
    """Whether a right is what a call needed."""
    def holds(given, asked):
        return given in ("*", asked)

    return holds(right.verb, call.verb) and holds(right.group, call.group) and holds(right.resource, call.resource)


def compare(given, asked):
    """The rights that nothing used, and the calls that were refused.

    A server-side apply that makes an object is a patch, and needs the right to create as well. An API server that begins
    refuses what it has not read the roles for yet: what some right covers was not refused for want of it."""
    answered = [call for call in asked if call.code not in ("403", "none")]
    answered += [call._replace(verb="create") for call in answered if (call.verb, call.code) == ("patch", "201")]
    unused = [right for right in given if not any(covers(right, call) for call in answered)]
    refused = [call for call in asked if call.code == "403" and not any(covers(right, call) for right in given)]
    return unused, refused


def told(unused, refused):
    """Both as lines for people; none where all is well."""
    def of(group, resource):
        return f"{resource}.{group}" if group else resource

    lines = [
        f"nothing uses {right.verb} of {of(right.group, right.resource)}"
        f"{' named ' + ', '.join(right.names) if right.names else ''} ({right.where}); take it away"
        for right in unused
    ]
    return lines + [
        f"{call.verb} of {of(call.group, call.resource)} was refused {call.count} times; give the right, or do not ask"
        for call in refused
    ]


class Test(unittest.TestCase):
    ROLE = {
        "kind": "ClusterRole", "metadata": {"name": "c"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["a.b"], "resources": ["things/status"], "resourceNames": ["t"], "verbs": ["patch"]},
        ],
    }
    BINDING = {
        "kind": "ClusterRoleBinding", "metadata": {"name": "c"}, "roleRef": {"kind": "ClusterRole", "name": "c"},
        "subjects": [{"kind": "ServiceAccount", "name": "control", "namespace": "m"}],
    }

    @staticmethod
    def line(verb, group, resource, subresource, code, count):
        labels = f'code="{code}",group="{group}",resource="{resource}",subresource="{subresource}",verb="{verb}"'
        return f"{METRIC}{{{labels}}} {count}\n"

    def compared(self, *lines):
        given = rights([self.ROLE, self.BINDING], "m", "control")
        return compare(given, calls("# TYPE x counter\nother 1\n" + "".join(lines)))

    def test_what_is_used_is_not_told(self):
        used = [
            self.line("list", "", "pods", "", 200, 3), self.line("watch", "", "pods", "", 410, 1),
            self.line("patch", "a.b", "things", "status", 200, 1),
        ]
        self.assertEqual(self.compared(*used), ([], []))

    def test_what_nothing_used_is_told_by_verb_and_rule(self):
        used = self.line("list", "", "pods", "", 200, 3), self.line("patch", "a.b", "things", "", 200, 1)
        unused, refused = self.compared(*used)
        words = [(right.verb, right.resource) for right in unused]
        self.assertEqual(words, [("watch", "pods"), ("patch", "things/status")])
        self.assertEqual(refused, [])
        self.assertEqual(
            told(unused, [])[1], "nothing uses patch of things/status.a.b named t (ClusterRole c, rule 2); take it away"
        )

    def test_a_call_that_was_refused_is_told_and_uses_nothing(self):
        asked = self.line("list", "", "nodes", "", 403, 2), self.line("watch", "", "pods", "", "none", 9)
        unused, refused = self.compared(*asked)
        words = [(right.verb, right.resource) for right in unused]
        self.assertIn(("list", "pods"), words)
        self.assertIn(("watch", "pods"), words)
        self.assertEqual(told([], refused), ["list of nodes was refused 2 times; give the right, or do not ask"])

    def test_rights_are_those_of_the_account_alone(self):
        self.assertEqual(rights([self.ROLE, self.BINDING], "m", "gateway"), [])
        self.assertEqual(rights([self.ROLE, self.BINDING], "other", "control"), [])
        with self.assertRaisesRegex(KeyError, "ClusterRole c, which ClusterRoleBinding c gives"):
            rights([self.BINDING], "m", "control")

    def test_a_star_covers_everything_and_a_subresource_is_none_of_its_resource(self):
        right = Right("*", "*", "pods", (), "")
        self.assertTrue(covers(right, Call("get", "", "pods", "200", 1)))
        self.assertFalse(covers(right, Call("get", "", "pods/log", "200", 1)))

    def test_objects_come_in_lists_too(self):
        listed = json.dumps({"kind": "List", "items": [self.ROLE, self.BINDING]})
        self.assertEqual(documents(listed), [self.ROLE, self.BINDING])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="test this program")
    parser.add_argument("--account", default="isthmus-system/control", help="namespace/name of the service account")
    parser.add_argument("--objects", type=pathlib.Path, help="the rendered objects")
    parser.add_argument("metrics", nargs="*", type=pathlib.Path, help="what 15020 /metrics of its replicas said, a file each")
    asked = parser.parse_args()
    if asked.self_test:
        unittest.main(argv=[sys.argv[0]])
    if not asked.objects or not asked.metrics:
        parser.error("name the rendered objects by --objects, and files of metrics")
    given = rights(documents(asked.objects.read_text()), *asked.account.split("/", 1))
    lines = told(*compare(given, [call for file in asked.metrics for call in calls(file.read_text())]))
    print("\n".join(lines) or f"every right of {asked.account} was used, and nothing was refused")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
