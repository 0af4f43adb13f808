"""From nothing to three clusters that serve each other, and to nothing again."""

import json

from kube import ROOT, Failed, eventually
import load
from mesh import BOOKINFO, SERVICES, SHOP, SYSTEM


def volume(cluster, folder):
    """A volume made by hand for the member, where nobody makes them."""
    path = folder / cluster.name
    return json.dumps({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"isthmus-{cluster.name}"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": SYSTEM, "name": "state-isthmus-federation-0"},
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]}},
        },
    })


def install(mesh):
    """helm install in two clusters: every component becomes ready"""
    repository, _, tag = mesh.image.rpartition(":")
    if mesh.asked.volumes:
        for cluster in mesh.clusters:
            cluster.apply(volume(cluster, mesh.asked.volumes))
    for cluster in mesh.clusters[:2]:
        cluster.helm(
            "install", "isthmus", "deploy/helm/isthmus", "-n", SYSTEM, "--create-namespace",
            "--set", f"cluster.name={cluster.name}", "--set", f"image.repository={repository}",
            "--set", f"image.tag={tag}", "--set", "istioCRDs.enabled=true", *mesh.disk())
    for cluster in mesh.clusters[:2]:
        for what in ["deploy/isthmus-control", "statefulset/isthmus-federation", "deploy/isthmus-gateway"]:
            cluster.rolled_out(SYSTEM, what)


def join(mesh):
    """a token each, and the third is installed by it: all clusters see each other alive, and check finds nothing"""
    def token(joiner):
        return eventually("a token", lambda: mesh.isthmus(mesh.first, "token", "create", "--cluster", joiner.name))
    mesh.isthmus(mesh.second, "join", "-", text=token(mesh.second))
    mesh.isthmus(mesh.third, "join", "-", "--image", mesh.image, *mesh.disk(), text=token(mesh.third))
    for cluster in mesh.clusters:
        def alive():
            rows = mesh.isthmus.rows(cluster, "clusters")
            return len(rows) == 3 and all(row["standing"] == "alive" for row in rows)
        eventually(f"{cluster.name} sees three clusters alive", alive)
        eventually(f"nothing is wrong with {cluster.name}", lambda: mesh.isthmus(cluster, "check"))


def bookinfo(mesh):
    """Istio's sample, unmodified, in each cluster: each pod has its sidecar and is ready"""
    client = (ROOT / "scenarios/kubernetes/client.yaml").read_text().replace("IMAGE", mesh.client)
    for cluster in mesh.clusters:
        cluster.kubectl("apply", "-f", BOOKINFO / "bookinfo.yaml")
        cluster.kubectl("apply", "-f", BOOKINFO / "serviceexport.yaml")
        cluster.apply(client)
    load.deploy(mesh.first, mesh.asked.load)
    load.deploy(mesh.third, mesh.asked.load)
    for cluster in mesh.clusters:
        cluster.kubectl("-n", SHOP, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=300s")
        for pod in cluster.get("-n", SHOP, "pods")["items"]:
            sidecars = [one for one in pod["spec"]["initContainers"] if one["name"] == "isthmus-proxy"]
            if len(sidecars) != 1 or sidecars[0].get("restartPolicy") != "Always":
                raise Failed(f"{pod['metadata']['name']} has no sidecar")
        def whole():
            status, page = mesh.get(cluster, "http://productpage:9080/productpage")
            # That its pods are ready is heard a moment later by whoever calls them; until then a page says sorry.
            if status != 200 or "Reviews served by" not in page or "ISBN" not in page:
                raise Failed(f"{status}: {page[-500:]}")
            return True
        eventually(f"the page of {cluster.name}, with details and reviews", whole)


def exported(mesh):
    """what is exported has a name everywhere, and each cluster serves its own clients"""
    for cluster in mesh.clusters:
        for service in SERVICES:
            host = f"{service}.{SHOP}.svc.clusterset.local"
            # Others may have served it while its own pods began; it comes home along the ramp.
            eventually(f"{host} of {cluster.name} is served there",
                       lambda: all(mesh.served_by(cluster, service, host)[1] == cluster.name for _ in range(3)))
        def whole():
            rows = mesh.isthmus.rows(cluster, "endpoints", f"reviews.{SHOP}")
            return {row["cluster"] for row in rows} == {one.name for one in mesh.clusters}
        eventually(f"{cluster.name} knows the reviews of all", whole)
        def imported():
            found = cluster.get("-n", SHOP, "serviceimports")["items"]
            offered = {one["metadata"]["name"]: {of["cluster"] for of in one["status"]["clusters"]} for one in found}
            return offered == {service: {one.name for one in mesh.clusters} for service in SERVICES}
        eventually(f"{cluster.name} has ServiceImports of all", imported)


def trace(mesh):
    """a trace names every hop of a call to another cluster"""
    mesh.second.kubectl("-n", SHOP, "scale", "deployment", "-l", "app=details", "--replicas=0")
    def elsewhere():
        hops = mesh.isthmus.rows(mesh.second, "trace", f"curl@{mesh.second.name}", f"details.{SHOP}:9080/details/0")
        # The last one answered: before it may be one that was just going. Where a machine has no time for the way to another
        # cluster, one that is going serves as well.
        endpoint = [hop for hop in hops if hop["hop"] == "endpoint"][-1]
        is_answered = hops[-1]["hop"] == "answer" and hops[-1]["ok"]
        if not is_answered or f"{mesh.second.name}." in endpoint["identity"]:
            raise Failed(f"it is no call that another cluster answers: {hops}")
        if "gateway" not in [hop["hop"] for hop in hops]:
            raise Failed(f"no gateway is named: {hops}")
        return True
    eventually("a trace by the gateways", elsewhere)
    mesh.second.kubectl("-n", SHOP, "scale", "deployment", "-l", "app=details", "--replicas=2")


def uninstall(mesh):
    """uninstalled by Helm or by our command: nothing is left that is not data"""
    for cluster in mesh.clusters:
        cluster.kubectl("delete", "namespace", SHOP, "--wait=false")
    for cluster in mesh.clusters:
        cluster.kubectl("wait", "--for=delete", f"namespace/{SHOP}", "--timeout=300s")
    mesh.isthmus(mesh.third, "uninstall", "--yes")
    left = mesh.third.kubectl("get", "namespaces,crds,configmaps,clusterroles", "-A", "-o", "name")
    if "isthmus" in left:
        raise Failed(f"left in {mesh.third.name}: {left}")
    for cluster in mesh.clusters[:2]:
        cluster.helm("uninstall", "isthmus", "-n", SYSTEM, "--wait")
        eventually("the roots go from all namespaces", lambda: not [
            one for one in cluster.get("configmaps", "-A")["items"]
            if one["metadata"]["name"] == "isthmus-roots" and one["metadata"]["namespace"] != SYSTEM])
        cluster.kubectl("delete", "namespace", SYSTEM, "--wait=true")
        for kind in ["clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"]:
            left = [one["metadata"]["name"] for one in cluster.get(kind)["items"] if "isthmus" in one["metadata"]["name"]]
            if left:
                raise Failed(f"{cluster.name} still has {kind}: {left}")
