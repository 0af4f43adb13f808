"""What comes and goes under load: pods and components. No request fails."""

import json

from kube import eventually
from mesh import SERVICES, SHOP, SYSTEM
from stories.least import counted


def failover(mesh):
    """the own pods of a service go away under load: no request by its plain name fails, others serve it, and it returns"""
    cluster, asking = mesh.third, mesh.load(mesh.third, "ratings")
    cluster.kubectl("-n", SHOP, "scale", "deployment", "ratings-v1", "--replicas=0")
    def others():
        return mesh.served_by(cluster, "ratings")[1] != cluster.name
    eventually("ratings are served by another cluster", others)
    asking.ended()
    cluster.kubectl("-n", SHOP, "scale", "deployment", "ratings-v1", "--replicas=2")
    cluster.rolled_out(SHOP, "deployment/ratings-v1")
    eventually("ratings are served at home again", lambda: mesh.served_by(cluster, "ratings")[1] == cluster.name)


def rolling(mesh):
    """pods are rolled, scaled down and evicted under load: no request fails"""
    cluster = mesh.first
    asking = mesh.load(cluster, "details")
    cluster.kubectl("-n", SHOP, "rollout", "restart", "deployment/details-v1")
    cluster.rolled_out(SHOP, "deployment/details-v1")
    cluster.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=3")
    cluster.rolled_out(SHOP, "deployment/details-v1")
    cluster.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=2")
    pod = cluster.pods(SHOP, "app=details")[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SHOP}}
    cluster.kubectl("create", "--raw", f"/api/v1/namespaces/{SHOP}/pods/{pod}/eviction", "-f", "-", text=json.dumps(eviction))
    eventually("the evicted pod is gone", lambda: pod not in [
        one["metadata"]["name"] for one in cluster.pods(SHOP, "app=details")])
    cluster.rolled_out(SHOP, "deployment/details-v1")
    asking.ended()


def components(mesh):
    """each component is killed in its turn under load: no request fails, and it is there again"""
    cluster = mesh.first
    counted(mesh)
    load = mesh.load(cluster, "details")
    for component in ["control", "federation", "gateway"]:
        selector = f"app.kubernetes.io/component={component}"
        before = {pod["metadata"]["uid"] for pod in cluster.pods(SYSTEM, selector)}
        cluster.kubectl("-n", SYSTEM, "delete", "pods", "-l", selector, "--wait=false", "--grace-period=1")
        for service in SERVICES:
            eventually(f"{service} are served", lambda: mesh.served_by(cluster, service))
        def again():
            pods = cluster.pods(SYSTEM, selector)
            ready = [pod for pod in pods if pod["metadata"]["uid"] not in before and is_ready(pod)]
            return len(ready) == len(before)
        eventually(f"the {component} is there again", again)
    load.ended()
    eventually("all see each other again", lambda: all(
        row["standing"] == "alive" for row in mesh.isthmus.rows(cluster, "clusters")))


def replicas(mesh):
    """the control that speaks for its cluster dies: the other one speaks, what operators did stands, and no request fails"""
    cluster = mesh.first
    def holder():
        lease = cluster.get("lease", "-n", SYSTEM, "isthmus-control")
        return lease["spec"].get("holderIdentity", "").rpartition("_")[0]
    def drained():
        verbs = mesh.isthmus.rows(cluster, "failover", "verbs")["verbs"]
        return [row["what"] for row in verbs if row["what"].startswith("drain")]
    load, spoke = mesh.load(cluster, "details"), holder()
    # A control that is held up for longer than a person waits has done it all the same, and may be told again.
    eventually("it is drained", lambda: mesh.isthmus(
        cluster, "cluster", "drain", mesh.third.name, "--over", "1s", "--reason", "a story"))
    cluster.kubectl("-n", SYSTEM, "delete", "pod", spoke, "--grace-period=0", "--force", "--wait=false")
    eventually("another replica speaks", lambda: holder() not in ("", spoke))
    eventually("the drain stands", lambda: len(drained()) == 1)
    eventually("others see the cluster alive", lambda: {
        row["name"]: row["standing"] for row in mesh.isthmus.rows(mesh.second, "clusters")}[cluster.name] == "alive")
    def over():
        if drained():
            mesh.isthmus(cluster, "cluster", "undrain", mesh.third.name)
        return not drained()
    eventually("the drain is over", over)
    load.ended()


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
