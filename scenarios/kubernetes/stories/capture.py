"""What a pod calls goes where it was meant to, and what calls it comes in."""

import json
import re

from kube import ROOT, Failed, eventually
from mesh import SHOP

NAMESPACE = "capture"


def captured(mesh):
    """pods are called by every kind of name and address, speak first, call themselves and the outside: all arrive"""
    cluster = mesh.first
    manifest = (ROOT / "scenarios/kubernetes/capture.yaml").read_text()
    cluster.apply(manifest.replace("MESH", mesh.image).replace("CLIENT", mesh.client))
    cluster.rolled_out(NAMESPACE, "statefulset/echo-v1")
    for pod in ["capture/echo-v2-transparent", "elsewhere/echo-v3-away"]:
        namespace, name = pod.split("/")
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=300s")
    called = Called(cluster)
    called.by_names_and_addresses()
    called.outside()
    called.first_word()
    called.by_itself()
    called.with_its_address()
    called.by_the_kubelet()
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Complete", "job/once", "--timeout=300s")
    for namespace in [NAMESPACE, "elsewhere"]:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


class Called:
    """Calls, each by one way."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.address = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in cluster.pods(NAMESPACE, "")}

    def asked(self, url, pod="deploy/curl", namespace=SHOP, container="curl"):
        """What the one who was asked saw of it."""
        return json.loads(self.cluster.exec(namespace, pod, container, "curl", "-sS", "-m", "5", url))

    def holds(self, what, url, wanted, **by):
        """Soon whoever is asked answers as is wanted."""
        def look():
            seen = self.asked(url, **by)
            differs = {key: seen.get(key) for key, value in wanted.items() if not re.search(value, str(seen.get(key)))}
            if differs:
                raise Failed(f"{url}: {differs}")
            return True
        eventually(what, look)

    def by_names_and_addresses(self):
        by_curl = r"/ns/bookinfo/sa/default$"
        self.holds("a Service's name", "http://front.capture/", {"workload": "^echo-v1-[01]$", "peer_identity": by_curl})
        self.holds("a headless Service's name", "http://echo.capture:9080/", {"workload": "^echo-v1-[01]$"})
        for pod in ["echo-v1-0", "echo-v1-1"]:
            self.holds(f"{pod} by name", f"http://{pod}.echo.capture:9080/", {"workload": f"^{pod}$"})
            self.holds(f"{pod} by address", f"http://{self.address[pod]}:9080/", {"workload": f"^{pod}$"})

    def outside(self):
        """Without a sidecar there: nobody knows who calls."""
        away = self.cluster.get("-n", "elsewhere", "pod", "echo-v3-away")["status"]["hostIP"]
        for what, host in [("a node's address", away), ("an ExternalName", "alias.capture"), ("its target", "away.elsewhere")]:
            self.holds(what, f"http://{host}:9080/", {"workload": "^echo-v3-away$", "peer_identity": "^None$"})

    def first_word(self):
        """The server speaks first, by a Service, by a headless one and by an address."""
        for host in ["front.capture", "echo.capture", self.address["echo-v1-1"]]:
            def greeted():
                told = self.cluster.exec(SHOP, "deploy/curl", "curl", "sh", "-c",
                                         f"curl -s -m 2 telnet://{host}:9000 </dev/null; true")
                return json.loads(told)["workload"].startswith("echo-v1-")
            eventually(f"the first word of {host}", greeted)

    def by_itself(self):
        """Over loopback no sidecar is in between; by its Service it may be itself."""
        own = {"pod": "echo-v1-0", "namespace": NAMESPACE, "container": "shell"}
        self.holds("itself over loopback", "http://127.0.0.1:9080/", {"workload": "^echo-v1-0$", "peer_identity": "^None$"}, **own)
        for pod in ["echo-v1-0", "echo-v1-1"]:
            self.holds(f"{pod} by the Service of both", "http://front/", {"workload": f"^{pod}$"}, **own)
        self.holds("itself by its address", f"http://{self.address['echo-v1-0']}:9080/", {"workload": "^echo-v1-0$"}, **own)

    def with_its_address(self):
        """The application sees the client's own address."""
        client = self.cluster.pods(SHOP, "app=curl")[0]["status"]["podIP"]
        script = "(curl -s -m 4 telnet://transparent.capture:9000 </dev/null >/dev/null 2>&1 &) ; sleep 0.2"
        def seen():
            self.cluster.exec(SHOP, "deploy/curl", "curl", "sh", "-c", script)
            table = self.cluster.exec(NAMESPACE, "echo-v2-transparent", "shell", "netstat", "-tn")
            return [line for line in table.splitlines() if re.search(rf":9000\s+\S*{re.escape(client)}:\d+\s+ESTABLISHED", line)]
        eventually("the client's address", seen)

    def by_the_kubelet(self):
        """Probes by TCP, HTTP and gRPC hold, asked by the sidecar; none was missed."""
        for name in ["echo-v1-0", "echo-v1-1"]:
            pod = self.cluster.get("-n", NAMESPACE, "pod", name)
            container = next(one for one in pod["spec"]["containers"] if one["name"] == "echo")
            probes = [container[f"{kind}Probe"] for kind in ["startup", "readiness", "liveness"]]
            if [probe.get("httpGet", {}).get("port") for probe in probes] != [15021] * 3:
                raise Failed(f"probes of {name} do not go to its sidecar: {probes}")
            self.cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=300s")
            status = next(one for one in pod["status"]["containerStatuses"] if one["name"] == "echo")
            if status["restartCount"]:
                raise Failed(f"{name} is not well by its probes: {status}")
