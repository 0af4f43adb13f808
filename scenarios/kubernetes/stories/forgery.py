"""Sidecars that are not what they say they are: a forged token, one for somebody else, one that speaks for others."""

import base64
import json

from kube import Failed, eventually
from mesh import SHOP

NAMESPACE = "forgers"
TOKEN, ROOTS, POD, STATE = "/var/run/secrets/isthmus", "/var/run/isthmus/roots", "/var/run/isthmus/pod", "/var/lib/isthmus"


def forged(mesh):
    """who shows a forged token or one for somebody else gets no identity; who speaks for another namespace is not heard"""
    cluster = mesh.first
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "forged", "namespace": NAMESPACE},
              "stringData": {"token": forgery()}}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, secret,
        sidecar(mesh, "forger", {"secret": {"secretName": "forged"}}),
        sidecar(mesh, "misdirected", projected({})),
        sidecar(mesh, "impostor", projected({"audience": "isthmus.dev"}),
                {"POD_NAMESPACE": SHOP, "SERVICE_ACCOUNT": "bookinfo-details"}),
    ]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    said(cluster, NAMESPACE, "pod/forger", "is not one of this cluster's API server")
    said(cluster, NAMESPACE, "pod/misdirected", "is for another audience than isthmus.dev")
    # Which of the replicas it comes to is chance.
    said(cluster, "isthmus-system", "--selector=app.kubernetes.io/component=control", "may speak only for its own namespace")
    rows = mesh.isthmus.rows(cluster, "endpoints", f"details.{SHOP}")
    if any("impostor" in json.dumps(row) for row in rows):
        raise Failed(f"the impostor is an endpoint: {rows}")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def said(cluster, namespace, what, words):
    """Somebody said so in the log, in a line."""
    def look():
        # What has ended says it in the log of its last run.
        lines = cluster.kubectl("-n", namespace, "logs", what, "--tail=200").splitlines()
        return [line for line in lines if words in line]
    eventually(f"{what} says {words!r}", look)


def part(of):
    return base64.urlsafe_b64encode(json.dumps(of).encode()).decode().rstrip("=")


def forgery():
    """A token in its form, which nobody signed."""
    claims = {"iss": "https://kubernetes.default.svc.cluster.local", "aud": ["isthmus.dev"], "exp": 4102444800,
              "sub": f"system:serviceaccount:{SHOP}:bookinfo-details"}
    return ".".join([part({"alg": "RS256", "kid": "x"}), part(claims), part("x" * 200)])


def projected(more):
    return {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600} | more}]}}


def sidecar(mesh, name, token, claims=None):
    """A pod that runs a sidecar by itself, with what injection would have given it, but for what its owner made of it."""
    def field(path):
        return {"valueFrom": {"fieldRef": {"fieldPath": path}}}
    cluster = mesh.first.name
    given = {
        "POD_NAME": field("metadata.name"), "POD_NAMESPACE": field("metadata.namespace"), "POD_UID": field("metadata.uid"),
        "POD_IP": field("status.podIP"), "SERVICE_ACCOUNT": {"value": "default"}, "ISTHMUS_MESH": {"value": "mesh.local"},
        "ISTHMUS_CLUSTER": {"value": cluster}, "ISTHMUS_TRUST_DOMAIN": {"value": f"{cluster}.mesh.local"},
        "ISTHMUS_CONTROL": {"value": "isthmus-control.isthmus-system.svc:15012"}, "ISTHMUS_PROBES": {"value": "{}"},
    }
    given |= {name: {"value": value} for name, value in (claims or {}).items()}
    downward = [{"path": of, "fieldRef": {"fieldPath": f"metadata.{of}"}} for of in ["labels", "annotations"]]
    volumes = {"token": token, "roots": {"configMap": {"name": "isthmus-roots"}}, "pod": {"downwardAPI": {"items": downward}},
               "state": {"emptyDir": {}}}
    places = {"token": TOKEN, "roots": ROOTS, "pod": POD, "state": STATE}
    container = {
        "name": "proxy", "image": mesh.image, "imagePullPolicy": "IfNotPresent", "args": ["proxy", "--pod"],
        "env": [{"name": name} | value for name, value in given.items()],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in places.items()],
    }
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "details", "isthmus.dev/inject": "false"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "securityContext": {"fsGroup": 1337},
                 "volumes": [{"name": name} | volume for name, volume in volumes.items()]},
    }
