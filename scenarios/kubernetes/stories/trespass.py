"""Those who mean no good."""

from kube import ROOT, Failed, eventually
from mesh import SHOP, SYSTEM


def strangers(mesh):
    """a namespace that somebody took over gets nothing that is not its own"""
    cluster = mesh.first
    cluster.apply((ROOT / "scenarios/kubernetes/strangers.yaml").read_text().replace("IMAGE", mesh.client))
    # The node's network and a sidecar do not go together: the pod runs without, and somebody is told.
    eventually("the pod on the node's network runs without a sidecar", lambda: [
        pod for pod in cluster.pods("strangers", "app=on-the-node") if "initContainers" not in pod["spec"]])
    eventually("an Event on it says why", lambda: [
        one for one in cluster.get("-n", "strangers", "events.events.k8s.io")["items"]
        if one["regarding"]["name"] == "on-the-node" and one["reason"] == "SidecarNotInjected" and "hostNetwork" in one["note"]])
    cluster.rolled_out("strangers", "deployment/stranger")
    pod = cluster.pods("strangers", "app=stranger")[0]["metadata"]["name"]
    # It may call as anybody does who is no workload of the mesh ...
    eventually("a client without a sidecar is answered", lambda: cluster.exec(
        "strangers", pod, "stranger", "curl", "-sSf", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
        f"http://details.{SHOP}:9080/details/0") == "200")
    # ... but has no port of the mesh's parts: admin ports are on loopback.
    for component in ["control", "federation", "gateway"]:
        address = cluster.pods(SYSTEM, f"app.kubernetes.io/component={component}")[0]["status"]["podIP"]
        told = cluster.exec("strangers", pod, "stranger", "sh", "-c",
                            f"curl -sS -m 3 -o /dev/null -w %{{http_code}} http://{address}:15000/version || true")
        if told.strip() != "000":
            raise Failed(f"a stranger reaches the admin port of the {component}: {told}")
    # Its account may read nothing of the mesh's, nor of others; and what it proves itself by to the mesh is worth nothing there.
    ask = "curl -sk -o /dev/null -w '%{http_code} ' -H \"Authorization: Bearer $TOKEN\" https://kubernetes.default.svc/api/v1/namespaces"
    places = f"{SYSTEM}/secrets/isthmus-ca {SYSTEM}/secrets {SHOP}/secrets {SYSTEM}/configmaps/isthmus"
    uid = cluster.get("-n", "strangers", "pod", pod)["metadata"]["uid"]
    sidecars = cluster.kubectl("-n", "strangers", "create", "token", "default", "--audience=isthmus.dev",
                               "--bound-object-kind=Pod", f"--bound-object-name={pod}", f"--bound-object-uid={uid}").strip()
    for whose, token, answer in [("its own", "$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)", "403"),
                                 ("a sidecar's", sidecars, "401")]:
        def answered():
            told = cluster.exec("strangers", pod, "stranger", "sh", "-c",
                                f"TOKEN={token}; for place in {places}; do {ask}/$place; done").split()
            if told != [answer] * 4:
                raise Failed(f"a stranger gets {told}")
            return True
        eventually(f"{whose} token is worth nothing", answered, seconds=30)
    # A wrong annotation is answered where it is written.
    wrong = (ROOT / "scenarios/kubernetes/wrong.yaml").read_text().replace("IMAGE", mesh.client)
    eventually("a pod with a wrong annotation is refused", lambda: cluster.refuses(wrong, "excludeOutboundPorts"), seconds=30)
    cluster.kubectl("delete", "namespace", "strangers")
