"""What somebody applied is found again as it was applied."""

import json

from kube import eventually
from mesh import BOOKINFO, SYSTEM


def undrifted(mesh):
    """what the mesh writes is in nothing that was applied: who applies all of it again, as GitOps controllers do, changes nothing"""
    for cluster in mesh.clusters[:2]:
        text = cluster.helm("get", "manifest", "isthmus", "-n", SYSTEM)
        eventually(f"the chart in {cluster.name} is as it was applied", lambda: again(cluster, text), seconds=30)
    for file in ["serviceexport.yaml", "failoverpolicy.yaml"]:
        text = (BOOKINFO / file).read_text()
        mesh.first.apply(text)
        eventually(f"the mesh wrote what it thinks of {file}", lambda: all(thought(mesh.first, text)))
        eventually(f"{file} is as it was applied", lambda: again(mesh.first, text), seconds=30)


def thought(cluster, text):
    """Of each object what its status says."""
    found = json.loads(cluster.kubectl("get", "-o", "json", "-f", "-", text=text))
    return [one.get("status", {}).get("conditions") for one in found.get("items", [found])]


def again(cluster, text):
    """Fails with the difference that there would be; a status that is written just then is one."""
    cluster.kubectl("diff", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-", text=text)
    return True
