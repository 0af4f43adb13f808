"""Rights: control asks for all that it may, and for nothing else."""

from kube import Failed
from mesh import SYSTEM
from rights import calls, compare, rights, told

ACCOUNT = "control"
KINDS = "roles,clusterroles,rolebindings,clusterrolebindings"


def counted(mesh):
    """What each replica of control asked of its API server up to now is kept: the next story may end some of them."""
    for cluster in mesh.clusters:
        for pod in cluster.pods(SYSTEM, f"app.kubernetes.io/component={ACCOUNT}"):
            name = pod["metadata"]["name"]
            mesh.asked_for[pod["metadata"]["uid"]] = cluster.kubectl(
                "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:15020/proxy/metrics")


def least(mesh):
    """of the rights that control has each was used by now, and nothing that it asked for was refused"""
    counted(mesh)
    asked = [call for text in mesh.asked_for.values() for call in calls(text)]
    given = rights(mesh.first.get("-A", KINDS)["items"], SYSTEM, ACCOUNT)
    # What the API server gives to everybody.
    given = [right for right in given if "isthmus" in right.where]
    lines = told(*compare(given, asked))
    if lines or not given:
        raise Failed("\n".join(lines) or "no right is given at all")
    print(f"   {len(given)} rights, {sum(call.count for call in asked)} calls", flush=True)
