"""What somebody applied is found again as it was applied."""

from mesh import BOOKINFO, SYSTEM


def undrifted(mesh):
    """what the mesh writes is in nothing that was applied: who applies all of it again, as GitOps controllers do, changes nothing"""
    for cluster in mesh.clusters[:2]:
        again(cluster, cluster.helm("get", "manifest", "isthmus", "-n", SYSTEM))
    for file in ["serviceexport.yaml", "failoverpolicy.yaml"]:
        again(mesh.first, (BOOKINFO / file).read_text())


def again(cluster, text):
    """Fails with the difference that there would be."""
    cluster.kubectl("diff", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-", text=text)
