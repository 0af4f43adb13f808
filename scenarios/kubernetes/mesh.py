"""What the stories are told of: the clusters, what they are given, and a client in each."""

import re

from kube import ROOT, Failed
from load import Load

SYSTEM, SHOP = "isthmus-system", "bookinfo"
BOOKINFO = ROOT / "deploy/examples/kubernetes"
SERVICES = ["details", "ratings", "reviews"]


class Mesh:
    """The clusters, and what they are given."""

    def __init__(self, clusters, isthmus, asked):
        self.clusters, self.isthmus, self.asked = clusters, isthmus, asked
        self.image, self.client, self.fault = asked.image, asked.client, asked.fault
        self.first, self.second, self.third = clusters
        # Metrics of controls, by their pods' uids.
        self.asked_for = {}

    def disk(self):
        """What an installation is told where volumes are made by hand."""
        return ["--set", "federation.persistence.storageClass=-"] if self.asked.volumes else []

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
                except Failed as failed:
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
        pods = re.findall(rf'"({service}-v\d-[^"]+)"', body)
        if not pods:
            raise Failed(f"{service} of {cluster.name} names no pod: {body[:200]}")
        return pods[0], (owners or self.owners())[pods[0]]

    def load(self, cluster, service):
        """Requests for a service at the rate that was asked for."""
        return Load(cluster, f"http://{service}:9080/{service}/0", self.asked.rate)

    def owners(self):
        """Which cluster each pod is in."""
        return {
            pod["metadata"]["name"]: cluster.name
            for cluster in self.clusters
            for pod in cluster.get("-n", SHOP, "pods")["items"]
        }
