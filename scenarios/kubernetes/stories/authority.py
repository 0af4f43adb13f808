"""What signs a cluster's certificates is replaced while it serves others: no request fails, and what is broken is refused."""

import json
import pathlib
import subprocess
import tempfile

from authorities import FILES, SECRET, SIGNS_NOT, Root, bring, key
from kube import ROOT, Failed, eventually
from mesh import SHOP, SYSTEM
from stories.upgrades import CHART, restored, serving_alone

# Seconds that one is announced here and that leaves live: about as short as the chart lets them be.
ANNOUNCED, LIFE = 40, 600
# Leaves are renewed at half their life, with jitter.
RENEWED = LIFE * 0.7
# A look of control at the Secret, and of this at control.
LOOK = 40


def authority(mesh):
    """a certificate authority of openssl takes over under load, then another of its root, then one of another root: no
    request to its cluster or from it fails, leaves follow in time; a broken one is refused by name, a missing one is told"""
    if not mesh.asked.authority:
        return print("   without --authority nothing takes over from what signs", flush=True)
    at, via = mesh.second, mesh.first
    serving_alone(mesh, at)
    at.kubectl("-n", SHOP, "scale", "deployment", "ratings-v1", "--replicas=0")
    lives(mesh, at, LIFE, ANNOUNCED)
    with tempfile.TemporaryDirectory() as folder:
        one, another = [Root(pathlib.Path(folder, name)) for name in ["one", "another"]]
        secret = Secret(mesh, at, folder)
        load = mesh.load(via, "details")
        first = one.intermediate(at.name)
        secret.takes_over(first)
        refused(secret, one, another, first)
        missing(secret, first)
        secret.takes_over(one.intermediate(at.name), meanwhile=lambda: replaced(at))
        last = another.intermediate(at.name)
        secret.takes_over(last)
        everywhere(at, last)
        load.ended()
    at.kubectl("-n", SHOP, "scale", "deployment", "ratings-v1", "--replicas=2")
    restored(mesh)


class Secret:
    """The Secret of one cluster, and what becomes of what is put into it."""

    def __init__(self, mesh, cluster, folder):
        self.mesh, self.cluster, self.folder = mesh, cluster, folder

    def bring(self, files):
        bring(self.cluster, SYSTEM, files, self.folder)

    def said(self, words, seconds=LOOK):
        """Waits until check says so of what signs, and gives all that it says of that."""
        def found():
            told = [one for one in findings(self.mesh, self.cluster) if one["what"] == "Signing"]
            return [one for one in told if words in one["why"]] or print_last(told)
        return eventually(f"check says {words!r}", found, seconds)[0]

    def takes_over(self, files, meanwhile=None):
        """It is announced, then signs; pods that begin are its own, calls go both ways, and nothing is wrong."""
        self.bring(files)
        self.said(f"Secret {SYSTEM}/{SECRET} is announced")
        if meanwhile:
            meanwhile()
        self.signs(files, ANNOUNCED + LOOK)

    def signs(self, files, seconds):
        self.said(f"Secret {SYSTEM}/{SECRET} signs", seconds)
        new = rolled(self.cluster)
        if (signed := leaf(self.cluster, new)) != key(files):
            raise Failed(f"the leaf of {new} is signed by {signed}, not by {key(files)}")
        goes_out(self.mesh, self.cluster)
        eventually("nothing is wrong", lambda: self.mesh.isthmus(self.cluster, "check"))


def print_last(told):
    raise Failed(f"it says {told}")


def refused(secret, one, another, good):
    """Whatever is broken is refused with Secret, entry, reason and remedy; what signed signs on, over a restart too."""
    name, other = secret.cluster.name, another.intermediate(secret.cluster.name)
    for entry, reason, files in [
        ("ca-key.pem", "it holds no private key", good | {"ca-key.pem": "garbage\n"}),
        ("ca-key.pem", "it is not the key of ca-cert.pem", good | {"ca-key.pem": other["ca-key.pem"]}),
        ("ca-cert.pem", "expired", one.intermediate(name, days=-1)),
        ("ca-cert.pem", "is no certificate authority (CA:FALSE)", one.intermediate(name, extensions=SIGNS_NOT)),
        ("cert-chain.pem", "it does not lead to root-cert.pem", good | {"root-cert.pem": other["root-cert.pem"]}),
        ("cert-chain.pem", "it is no PEM", good | {"cert-chain.pem": "-----BEGIN CERTIFICATE-----\nx\n"}),
        ("root-cert.pem", "it is missing", {name: good[name] for name in FILES if name != "root-cert.pem"}),
    ]:
        secret.bring(files)
        found = secret.said(reason)
        if f"Secret {SYSTEM}/{SECRET}, entry {entry}" not in found["why"] or not found["remedy"]:
            raise Failed(f"the Secret is not named, or no remedy: {found}")
        event(secret.cluster, reason)
    replaced(secret.cluster)
    secret.said(reason)
    if leaf(secret.cluster, rolled(secret.cluster)) != key(good):
        raise Failed("what signed does not sign on")
    goes_out(secret.mesh, secret.cluster)
    secret.bring(good)
    secret.signs(good, LOOK)


def missing(secret, good):
    """A Secret that is deleted is told; what it held signs on until it is put back."""
    secret.cluster.kubectl("-n", SYSTEM, "delete", "secret", SECRET)
    secret.said(f"Secret {SYSTEM}/{SECRET} is gone")
    if leaf(secret.cluster, rolled(secret.cluster)) != key(good):
        raise Failed("what signed does not sign on")
    secret.bring(good)
    secret.signs(good, LOOK)


def everywhere(cluster, files):
    """Pods that were not touched have been renewed by now."""
    def others():
        leaves = {pod["metadata"]["name"]: leaf(cluster, pod["metadata"]["name"]) for pod in cluster.get("-n", SHOP, "pods")["items"]}
        return {pod: by for pod, by in leaves.items() if by != key(files)} or None
    def none():
        if left := others():
            raise Failed(f"not renewed: {left}")
        return True
    eventually("all leaves are signed by the last one", none, RENEWED)


def lives(mesh, cluster, leaves, announced):
    """Sets how long leaves live and authorities are announced; pods begin anew, for theirs were made to live longer."""
    cluster.helm(
        "upgrade", "isthmus", CHART, "-n", SYSTEM, "--reset-then-reuse-values", "--set", f"control.leafTtlSeconds={leaves}",
        "--set", f"control.announceSeconds={announced}", "--wait", "--timeout=180s")
    cluster.kubectl("-n", SHOP, "rollout", "restart", "deployment")
    for one in cluster.get("-n", SHOP, "deployments")["items"]:
        cluster.rolled_out(SHOP, f"deployment/{one['metadata']['name']}")


def replaced(cluster):
    """A replica of control goes, and another one comes."""
    pod = cluster.pods(SYSTEM, "app.kubernetes.io/component=control")[0]["metadata"]["name"]
    cluster.kubectl("-n", SYSTEM, "delete", "pod", pod, "--wait=true")
    cluster.rolled_out(SYSTEM, "deployment/isthmus-control")


def rolled(cluster):
    """A pod of details that began just now."""
    before = {pod["metadata"]["uid"] for pod in cluster.pods(SHOP, "app=details")}
    cluster.kubectl("-n", SHOP, "rollout", "restart", "deployment/details-v1")
    cluster.rolled_out(SHOP, "deployment/details-v1")
    new = [pod for pod in cluster.pods(SHOP, "app=details") if pod["metadata"]["uid"] not in before]
    return new[0]["metadata"]["name"]


def leaf(cluster, pod):
    """The identifier of the key that signed the leaf of a pod."""
    rows = cluster.admin(SHOP, pod, "/certificates")
    return next(row["authority"] for row in rows if row["certificate"] == "leaf")


def goes_out(mesh, cluster):
    """Calls of the cluster to others are answered."""
    _, server = mesh.served_by(cluster, "ratings")
    if server == cluster.name:
        raise Failed(f"ratings are served by {server} itself")


def findings(mesh, cluster):
    """All that check says, whatever is wrong."""
    command = [mesh.isthmus.binary, "--kubeconfig", cluster.kubeconfig, "check", "-o", "json"]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=180, cwd=ROOT)
    return json.loads(ran.stdout)


def event(cluster, words):
    """Whoever looks at the Secret's namespace finds the same there."""
    def told():
        events = cluster.get("-n", SYSTEM, "events.events.k8s.io")["items"]
        return [one for one in events if one["regarding"]["name"] == SECRET and words in one["note"]]
    eventually(f"an Event about the Secret says {words!r}", told)
