"""Requests at a constant rate, whatever becomes of them, and what became of them. vegeta sends them, out of a pod with a sidecar."""

import collections
import json

from kube import ROOT, Failed, eventually

NAMESPACE = "bookinfo"
ANSWERS = "/tmp/answers"
# Longer than a machine makes them wait on which three clusters and whatever else share two cores; what takes longer has failed.
LIMIT = 30


def deploy(cluster, image):
    """The pod that sends."""
    cluster.apply((ROOT / "scenarios/kubernetes/load.yaml").read_text().replace("IMAGE", image))
    cluster.rolled_out(NAMESPACE, "deployment/load")


class Load:
    """Requests to one URL, from now until it is asked what became of them."""

    def __init__(self, cluster, url, rate):
        self.cluster, self.rate = cluster, rate
        self.began = self.spent()
        # Whoever is its parent at last reaps nobody, so that it has ended is said by a file.
        self.shell(f"echo 'GET {url}' >/tmp/target; rm -f {ANSWERS} /tmp/ended; "
                   f"{{ vegeta attack -rate={rate} -duration=0 -timeout={LIMIT}s -max-body=0 -targets=/tmp/target "
                   f"-output={ANSWERS} & echo $! >/tmp/attack; wait; touch /tmp/ended; }} >/tmp/said 2>&1 &")
        self.goes_on(rate)

    def shell(self, script, timeout=60):
        return self.cluster.exec(NAMESPACE, "deploy/load", "load", "sh", "-c", script, timeout=timeout)

    def goes_on(self, more):
        """Waits for so many requests more."""
        # A line may be half written while it is looked at.
        def count():
            return json.loads(self.shell(f"vegeta report -type=json {ANSWERS} 2>/dev/null"))["requests"]
        until = eventually("the load runs", count) + more
        eventually("the load goes on", lambda: count() >= until)

    def spent(self):
        """Nanoseconds of CPU by container, as the kubelets count them, of the pods that are there."""
        spent = {}
        for node in self.cluster.get("nodes")["items"]:
            summary = json.loads(self.cluster.kubectl(
                "get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"))
            for pod in summary["pods"]:
                if pod["podRef"]["namespace"] == NAMESPACE:
                    for container in pod.get("containers", []):
                        key = pod["podRef"]["name"], container["name"]
                        spent[key] = container.get("cpu", {}).get("usageCoreNanoSeconds", 0)
        return spent

    def ended(self, lost=0):
        """Ends it; says what became of it, and fails where more than `lost` did not get their answer."""
        self.shell("kill -INT $(cat /tmp/attack); until [ -e /tmp/ended ]; do sleep 0.1; done", timeout=60 + LIMIT)
        report = json.loads(self.shell(f"vegeta report -type=json {ANSWERS}"))
        answered = report["status_codes"].get("200", 0)
        failed = report["requests"] - answered
        print(f"   {report['requests']} requests at {report['rate']:.0f}/s, {failed} failed, slowest "
              f"{report['latencies']['max'] / 1e9:.2f} s, of a hundred the slowest {report['latencies']['99th'] / 1e6:.0f} ms; "
              f"{self.cost(report['requests'])}", flush=True)
        if failed > lost:
            raise Failed(f"{failed} of {report['requests']} requests failed: {self.failures()}")
        if report["rate"] < 0.9 * self.rate:
            raise Failed(f"{report['rate']:.0f} requests a second were sent, not {self.rate}: this machine has no time for them")

    def cost(self, requests):
        """CPU of a request in the sender's sidecar and in all pods, of those that were there from first to last."""
        now = self.spent()
        spent = {key: now[key] - before for key, before in self.began.items() if key in now}
        own = sum(cost for (pod, container), cost in spent.items() if pod.startswith("load-") and container == "isthmus-proxy")
        return f"CPU of a request in the sidecar that sends {own / max(requests, 1) / 1e3:.0f} µs"

    def failures(self):
        """When, after how long, and why: the first ones, and how many of a kind."""
        lines = self.shell(f"vegeta encode -to=json {ANSWERS} | grep -v '\"code\":200' || true").splitlines()
        failures = [json.loads(line) for line in lines]
        kinds = collections.Counter((one["code"], one["error"]) for one in failures)
        first = [f"{one['timestamp']} +{one['latency'] / 1e6:.0f} ms" for one in failures[:5]]
        return f"{dict(kinds)}; the first at {', '.join(first)}"
