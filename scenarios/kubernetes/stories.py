"""What is done and looked at, in order. Each story says in its first line what holds."""

import json
import re
import subprocess
from kube import ROOT, Failed, eventually, run

SYSTEM, SHOP = "isthmus-system", "bookinfo"
BOOKINFO = ROOT / "deploy/examples/kubernetes"
SERVICES = ["details", "ratings", "reviews"]


class Mesh:
    """The clusters, and what they are given."""

    def __init__(self, clusters, isthmus, image, client, volumes, fault):
        self.clusters, self.isthmus, self.image, self.client, self.volumes = clusters, isthmus, image, client, volumes
        self.fault = fault
        self.first, self.second, self.third = clusters

    def disk(self):
        """What an installation is told where volumes are made by hand."""
        return ["--set", "federation.persistence.storageClass=-"] if self.volumes else []

    def tell(self):
        """What there is to see when something failed."""
        for cluster in self.clusters:
            for what in [
                ["get", "pods", "-A", "-o", "wide"],
                ["-n", SYSTEM, "logs", "deploy/isthmus-control", "--tail=20"],
                ["-n", SHOP, "get", "events", "--sort-by=.lastTimestamp"],
            ]:
                try:
                    print(f"== {cluster.name}: {' '.join(what)}\n{cluster.kubectl(*what)[-3000:]}")
                except (Failed, subprocess.TimeoutExpired) as failed:
                    print(f"== {cluster.name}: {failed}")

    def get(self, cluster, url, limit=5):
        """A request of the client in a cluster: status, and the body."""
        told = cluster.exec(
            SHOP, "deploy/curl", "curl", "curl", "-sS", "-m", str(limit), "-w", r"\n%{http_code}", url)
        body, _, status = told.rpartition("\n")
        return int(status), body

    def served_by(self, cluster, service, host=None, owners=None):
        """The pod that answers, and its cluster; `owners`: as they were found before, where not all API servers answer."""
        status, body = self.get(cluster, f"http://{host or service}:9080/{service}/0")
        if status != 200:
            raise Failed(f"{service} of {cluster.name} answers {status}: {body[:200]}")
        pod = re.search(rf'"({service}-v\d-[^"]+)"', body).group(1)
        return pod, (owners or self.owners())[pod]

    def load(self, cluster, service):
        """Requests one after the other, a connection each, until they are told to end."""
        script = (f"rm -f /tmp/end /tmp/answers; until [ -e /tmp/end ]; do curl -s -m 5 -o /dev/null -w '%{{http_code}}\\n' "
                  f"http://{service}:9080/{service}/0 >>/tmp/answers; done")
        asking = subprocess.Popen(["kubectl", "--kubeconfig", str(cluster.kubeconfig), "-n", SHOP, "exec", "deploy/curl", "-c",
                                   "curl", "--", "sh", "-c", script])
        load = (cluster, asking)
        eventually("the load runs", lambda: len(self.answers(load)) >= 5)
        return load

    def answers(self, load):
        """The statuses that came so far."""
        cluster, _ = load
        return cluster.exec(SHOP, "deploy/curl", "curl", "sh", "-c", "cat /tmp/answers 2>/dev/null || true").split()

    def unharmed(self, load, least=50):
        """Ends a load after so many requests more: none of all failed."""
        cluster, asking = load
        until = len(self.answers(load)) + least
        eventually("the load goes on", lambda: len(self.answers(load)) >= until)
        cluster.exec(SHOP, "deploy/curl", "curl", "touch", "/tmp/end")
        asking.wait(timeout=60)
        answers = self.answers(load)
        wrong = [answer for answer in answers if answer != "200"]
        print(f"   {len(answers)} requests, {len(wrong)} failed", flush=True)
        if wrong:
            raise Failed(f"{len(wrong)} of {len(answers)} requests failed: {sorted(set(wrong))}")

    def owners(self):
        """Which cluster each pod is in."""
        return {
            pod["metadata"]["name"]: cluster.name
            for cluster in self.clusters
            for pod in cluster.get("-n", SHOP, "pods")["items"]
        }


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
    if mesh.volumes:
        for cluster in mesh.clusters:
            cluster.apply(volume(cluster, mesh.volumes))
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
    mesh.isthmus(mesh.third, "join", "-", "--install", "--image", mesh.image, *mesh.disk(), text=token(mesh.third))
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
    for cluster in mesh.clusters:
        cluster.kubectl("-n", SHOP, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=120s")
        for pod in cluster.get("-n", SHOP, "pods")["items"]:
            sidecars = [one for one in pod["spec"]["initContainers"] if one["name"] == "isthmus-proxy"]
            if len(sidecars) != 1 or sidecars[0].get("restartPolicy") != "Always":
                raise Failed(f"{pod['metadata']['name']} has no sidecar")
        status, page = eventually(
            "the page", lambda: (got := mesh.get(cluster, "http://productpage:9080/productpage"))[0] == 200 and got)
        if "Reviews served by" not in page:
            raise Failed(f"the page has no reviews: {page[-500:]}")


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
        return hops[-1]["hop"] == "answer" and hops[-1]["ok"] and "gateway" in [hop["hop"] for hop in hops] and hops
    hops = eventually("a trace by the gateways", elsewhere)
    # The last one answered; before it may be one that was just going.
    endpoint = [hop for hop in hops if hop["hop"] == "endpoint"][-1]
    if f"{mesh.second.name}." in endpoint["identity"]:
        raise Failed(f"it is no call to another cluster: {endpoint}")
    mesh.second.kubectl("-n", SHOP, "scale", "deployment", "-l", "app=details", "--replicas=2")


def failover(mesh):
    """the own pods of a service go away under load: no request by its plain name fails, others serve it, and it returns"""
    cluster, asking = mesh.third, mesh.load(mesh.third, "ratings")
    cluster.kubectl("-n", SHOP, "scale", "deployment", "ratings-v1", "--replicas=0")
    def others():
        return mesh.served_by(cluster, "ratings")[1] != cluster.name
    eventually("ratings are served by another cluster", others)
    mesh.unharmed(asking)
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
    mesh.unharmed(asking)


def faults(mesh):
    """where a service is served: kubelet and container runtime die, the API server stops, all of it is cut off; none fails"""
    if not mesh.fault:
        return print("   without --fault nothing can be broken here", flush=True)
    owners = mesh.owners()
    def server():
        return mesh.served_by(mesh.first, "details", owners=owners)[1]
    def standing(name):
        return {row["name"]: row["standing"] for row in mesh.isthmus.rows(mesh.first, "clusters")}[name]
    mesh.first.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=0")
    serving = eventually("details come from elsewhere", lambda: (at := server()) != mesh.first.name and at)
    load = mesh.load(mesh.first, "details")
    for what in [["kubelet", "kill"], ["containerd", "kill"], ["kube-apiserver", "stop"]]:
        run([mesh.fault, serving, "n1", *what])
    for _ in range(10):
        if (server(), standing(serving)) != (serving, "alive"):
            raise Failed(f"{serving} without its API server is {standing(serving)}, and {server()} serves")
    run([mesh.fault, serving, "n1", "kube-apiserver", "start"])
    run([mesh.fault, serving, "cut"])
    eventually("it is left", lambda: standing(serving) == "dead" and server() not in (serving, mesh.first.name))
    run([mesh.fault, serving, "heal"])
    eventually("it is alive again", lambda: standing(serving) == "alive")
    mesh.unharmed(load)
    mesh.first.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=2")
    mesh.first.rolled_out(SHOP, "deployment/details-v1")


def replicas(mesh):
    """the control that speaks for its cluster dies: the other one speaks, what operators did stands, and no request fails"""
    cluster = mesh.first
    def holder():
        lease = cluster.get("lease", "-n", SYSTEM, "isthmus-control")
        return lease["spec"].get("holderIdentity", "").rpartition("_")[0]
    def drained():
        return [row["what"] for row in mesh.isthmus.rows(cluster, "failover", "verbs") if row["verb"] == "drain"]
    load, spoke = mesh.load(cluster, "details"), holder()
    mesh.isthmus(cluster, "cluster", "drain", mesh.third.name, "--over", "1s", "--reason", "a story")
    cluster.kubectl("-n", SYSTEM, "delete", "pod", spoke, "--grace-period=0", "--force", "--wait=false")
    eventually("another replica speaks", lambda: holder() not in ("", spoke))
    eventually("the drain stands", lambda: len(drained()) == 1)
    eventually("others see the cluster alive", lambda: {
        row["name"]: row["standing"] for row in mesh.isthmus.rows(mesh.second, "clusters")}[cluster.name] == "alive")
    mesh.isthmus(cluster, "cluster", "undrain", mesh.third.name)
    eventually("the drain is over", lambda: not drained())
    mesh.unharmed(load)


def components(mesh):
    """each component is killed in its turn: calls go on, and it is there again"""
    cluster = mesh.first
    for component in ["control", "federation", "gateway"]:
        selector = f"app.kubernetes.io/component={component}"
        before = {pod["metadata"]["uid"] for pod in cluster.pods(SYSTEM, selector)}
        cluster.kubectl("-n", SYSTEM, "delete", "pods", "-l", selector, "--wait=false", "--grace-period=1")
        for service in SERVICES:
            mesh.served_by(cluster, service)
        def again():
            pods = cluster.pods(SYSTEM, selector)
            ready = [pod for pod in pods if pod["metadata"]["uid"] not in before and is_ready(pod)]
            return len(ready) == (1 if component == "federation" else 2)
        eventually(f"the {component} is there again", again)
    eventually("all see each other again", lambda: all(
        row["standing"] == "alive" for row in mesh.isthmus.rows(cluster, "clusters")))


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def strangers(mesh):
    """a namespace that somebody took over gets nothing that is not its own"""
    cluster = mesh.first
    cluster.apply((ROOT / "scenarios/kubernetes/strangers.yaml").read_text().replace("IMAGE", mesh.client))
    # The node's network and a sidecar do not go together: the pod runs without, and somebody is told.
    eventually("the pod on the node's network runs without a sidecar", lambda: [
        pod for pod in cluster.pods("strangers", "app=on-the-node") if "initContainers" not in pod["spec"]])
    cluster.rolled_out("strangers", "deployment/stranger")
    pod = cluster.pods("strangers", "app=stranger")[0]["metadata"]["name"]
    # It may call as anybody does who is no workload of the mesh ...
    told = cluster.exec("strangers", pod, "stranger", "curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                        f"http://details.{SHOP}:9080/details/0")
    if told != "200":
        raise Failed(f"a client without a sidecar gets {told}")
    # ... but has no port of the mesh's parts: admin ports are on loopback.
    for component in ["control", "federation", "gateway"]:
        address = cluster.pods(SYSTEM, f"app.kubernetes.io/component={component}")[0]["status"]["podIP"]
        told = cluster.exec("strangers", pod, "stranger", "sh", "-c",
                            f"curl -sS -m 3 -o /dev/null -w %{{http_code}} http://{address}:15000/version || true")
        if told.strip() != "000":
            raise Failed(f"a stranger reaches the admin port of the {component}: {told}")
    # A wrong annotation is answered where it is written.
    try:
        cluster.apply((ROOT / "scenarios/kubernetes/wrong.yaml").read_text().replace("IMAGE", mesh.client))
        raise Failed("a pod with a wrong annotation was taken")
    except Failed as refused:
        if "excludeOutboundPorts" not in str(refused):
            raise
    cluster.kubectl("delete", "namespace", "strangers")


def uninstall(mesh):
    """uninstalled by Helm or by our command: nothing is left that is not data"""
    for cluster in mesh.clusters:
        cluster.kubectl("delete", "namespace", SHOP, "--wait=false")
    for cluster in mesh.clusters:
        cluster.kubectl("wait", "--for=delete", f"namespace/{SHOP}", "--timeout=120s")
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


STORIES = [install, join, bookinfo, exported, trace, failover, rolling, components, faults, replicas, strangers]
