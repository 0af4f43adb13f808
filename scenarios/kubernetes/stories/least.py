"""Rights: control asks for all that it may, and for nothing else."""

from kube import Failed, eventually
from mesh import BOOKINFO, SHOP, SYSTEM
from rights import calls, compare, rights, told

ACCOUNT = "control"
KINDS = "roles,clusterroles,rolebindings,clusterrolebindings"
# What no story lasts long enough for: an Event is counted on after half a minute, a Secret is written when a key is renewed.
LATER = {("patch", "events"), ("patch", "secrets"), ("get", "pods")}
OBJECTS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings, namespace: bookinfo}
spec: {host: ratings}
---
apiVersion: isthmus.dev/v1alpha1
kind: MeshCluster
metadata: {name: NAME}
spec: {}
"""


def counted(mesh):
    """What each replica of control asked of its API server up to now is kept: the next story may end some of them."""
    for cluster in mesh.clusters:
        for pod in cluster.pods(SYSTEM, f"app.kubernetes.io/component={ACCOUNT}"):
            name = pod["metadata"]["name"]
            mesh.asked_for[pod["metadata"]["uid"]] = cluster.kubectl(
                "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:15020/proxy/metrics")


def least(mesh):
    """of the rights that control has each was used by now, and nothing that it asked for was refused"""
    cluster = mesh.first
    cluster.kubectl("apply", "-f", BOOKINFO / "failoverpolicy.yaml")
    cluster.apply(OBJECTS.replace("NAME", cluster.name))
    for one in mesh.clusters:
        one.kubectl("-n", SHOP, "delete", "serviceexport", "ratings")
    eventually("the import goes", lambda: "ratings" not in [
        one["metadata"]["name"] for one in cluster.get("-n", SHOP, "serviceimports")["items"]])
    for one in mesh.clusters:
        one.kubectl("apply", "-f", BOOKINFO / "serviceexport.yaml")
    given = rights(cluster.get("-A", KINDS)["items"], SYSTEM, ACCOUNT)
    # What the API server gives to everybody is no right of ours.
    given = [right for right in given if "isthmus" in right.where and (right.verb, right.resource) not in LATER]

    def held():
        counted(mesh)
        lines = told(*compare(given, [call for text in mesh.asked_for.values() for call in calls(text)]))
        if lines or not given:
            raise Failed("\n".join(lines) or "no right is given at all")
        return True
    eventually("rights and calls are the same", held)
    print(f"   {len(given)} rights", flush=True)
