"""A newer release takes the place of an older one."""

import json
import pathlib
import re
import shutil
import tempfile

from kube import ROOT, Failed, eventually
from mesh import BOOKINFO, SHOP, SYSTEM

CHART = ROOT / "deploy/helm/isthmus"
POLICIES = "failoverpolicies.isthmus.dev"


def upgrade(mesh):
    """isthmus upgrade and helm upgrade, where calls come from and where they go to: none fails, old sidecars are told"""
    if not mesh.asked.newer:
        return print("   without --newer there is nothing to upgrade to", flush=True)
    at, via = mesh.third, mesh.first
    serving_alone(mesh, at)
    load = mesh.load(via, "details")
    age(at, is_helms=False)
    age(via, is_helms=True)
    mesh.isthmus(at, "upgrade", "--image", mesh.asked.newer)
    by_helm(mesh, via)
    load.ended()
    for cluster in [at, via]:
        is_new(mesh, cluster)
    restored(mesh)
    follow(mesh, via)


def serving_alone(mesh, at):
    """Details are left in one cluster."""
    for cluster in mesh.clusters:
        if cluster is not at:
            cluster.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=0")
    eventually(f"details come from {at.name}", lambda: mesh.served_by(mesh.first, "details")[1] == at.name)


def restored(mesh):
    """Details are everywhere again."""
    for cluster in mesh.clusters:
        cluster.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=2")
        cluster.rolled_out(SHOP, "deployment/details-v1")


def age(cluster, is_helms):
    """The definition of policies as an older release might have had it; and a policy that is to outlive the upgrade."""
    cluster.kubectl("apply", "-f", BOOKINFO / "failoverpolicy.yaml")
    if not is_helms:
        older = [{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]
        cluster.kubectl("patch", "crd", POLICIES, "--type=json", "-p", json.dumps(older))
        return
    with tempfile.TemporaryDirectory() as folder:
        chart = shutil.copytree(CHART, f"{folder}/isthmus")
        definition = pathlib.Path(chart, "files/crds", "isthmus.dev_failoverpolicies.yaml")
        columns = re.compile(r"^( +)additionalPrinterColumns:\n(?:\1 +.*\n)+", re.M)
        older, found = columns.subn("", definition.read_text())
        if not found:
            raise Failed(f"{definition} has no printer columns to be without")
        definition.write_text(older)
        cluster.helm("upgrade", "isthmus", chart, "-n", SYSTEM, "--reset-then-reuse-values")


def by_helm(mesh, cluster):
    repository, _, tag = mesh.asked.newer.rpartition(":")
    cluster.helm(
        "upgrade", "isthmus", CHART, "-n", SYSTEM, "--reset-then-reuse-values",
        "--set", f"image.repository={repository}", "--set", f"image.tag={tag}", "--wait", "--timeout=180s")


def is_new(mesh, cluster):
    """All roles run the newer image, the definition is whole again, its objects are there, and old sidecars are told."""
    images = {one["image"] for pod in cluster.pods(SYSTEM, "app.kubernetes.io/part-of=isthmus") for one in pod["spec"]["containers"]}
    if images != {mesh.asked.newer}:
        raise Failed(f"{cluster.name} runs {images}")
    if not cluster.get("crd", POLICIES)["spec"]["versions"][0].get("additionalPrinterColumns"):
        raise Failed(f"{cluster.name} has the older definition of policies")
    if not cluster.get("-n", SHOP, "failoverpolicies")["items"]:
        raise Failed(f"{cluster.name} lost its policies")
    old = told(mesh, cluster)
    if len(old) != 1 or mesh.image not in str(injected(cluster)) or "rollout restart" not in old[0]["remedy"]:
        raise Failed(f"old sidecars of {cluster.name} are told so: {old}")


def injected(cluster):
    return {one["image"] for pod in cluster.get("-n", SHOP, "pods")["items"]
            for one in pod["spec"]["initContainers"] if one["name"] == "isthmus-proxy"}


def told(mesh, cluster):
    """What check says of sidecars that are of another release."""
    findings = json.loads(mesh.isthmus(cluster, "check", "-o", "json"))
    return [one for one in findings if one["what"] == f"Sidecars in {SHOP}" and mesh.asked.newer in one["why"]]


def follow(mesh, cluster):
    """Does what the remedy says; nothing is told any more."""
    cluster.kubectl("-n", SHOP, "rollout", "restart", "deployment")
    for one in cluster.get("-n", SHOP, "deployments")["items"]:
        cluster.rolled_out(SHOP, f"deployment/{one['metadata']['name']}")
    eventually("no old sidecar is left", lambda: not told(mesh, cluster) and injected(cluster) == {mesh.asked.newer})
