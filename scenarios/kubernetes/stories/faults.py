"""Machines and networks that break under load, where a service is served. No request fails."""

import contextlib

from kube import Failed, eventually, run
from mesh import SHOP, SYSTEM

# Looks at a state that must not change.
LOOKS = 10


class Elsewhere:
    """Details are asked for in the first cluster, which has none, and served by another one; that is broken."""

    def __init__(self, mesh):
        self.mesh, self.owners = mesh, mesh.owners()
        mesh.first.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=0")
        eventually("no cluster returns along a ramp", self.is_settled)
        self.serving = eventually("details come from elsewhere", self.other)
        self.cluster = next(cluster for cluster in mesh.clusters if cluster.name == self.serving)
        self.load = mesh.load(mesh.first, "details")

    def is_settled(self):
        """What an earlier story did moves no requests any more."""
        rows = self.mesh.isthmus.rows(self.mesh.first, "failover", "status", f"details.{SHOP}")["rows"]
        [row] = [row for row in rows if row["importer"] == self.mesh.first.name]
        return all(place["share"] == 1 for place in row["places"] if place["cluster"] != self.mesh.first.name)

    def server(self):
        return self.mesh.served_by(self.mesh.first, "details", owners=self.owners)[1]

    def other(self):
        server = self.server()
        return server != self.mesh.first.name and server

    def standing(self):
        return {row["name"]: row["standing"] for row in self.mesh.isthmus.rows(self.mesh.first, "clusters")}[self.serving]

    def fault(self, *what):
        run([self.mesh.fault, self.serving, *what])

    def stays(self, standing, why):
        """Nothing moves."""
        for _ in range(LOOKS):
            serves, stands = self.server(), self.standing()
            if (serves, stands) != (self.serving, standing):
                raise Failed(f"{self.serving} {why} is {stands}, and {serves} serves")

    def is_left(self, standing):
        eventually(f"it is {standing}, and another one serves", lambda: (
            self.standing() == standing and self.server() not in (self.serving, self.mesh.first.name)))

    def is_back(self):
        """All of it, and not the first part of what returns along a ramp."""
        eventually("it is alive again, and serves", lambda: self.standing() == "alive" and all(
            self.server() == self.serving for _ in range(LOOKS)))


@contextlib.contextmanager
def elsewhere(mesh):
    """What is broken is whole again at the end, and no request failed."""
    place = Elsewhere(mesh)
    yield place
    place.is_back()
    place.load.ended()
    mesh.first.kubectl("-n", SHOP, "scale", "deployment", "details-v1", "--replicas=2")
    mesh.first.rolled_out(SHOP, "deployment/details-v1")


def can_break(mesh):
    if not mesh.fault:
        print("   without --fault nothing can be broken here", flush=True)
    return mesh.fault


def machines(mesh):
    """kubelet and container runtime die and the API server stops: nothing moves; all of it is cut off: it is left"""
    if not can_break(mesh):
        return
    with elsewhere(mesh) as place:
        for what in [["kubelet", "kill"], ["containerd", "kill"], ["kube-apiserver", "stop"]]:
            place.fault("n1", *what)
        place.stays("alive", "without its API server")
        place.fault("n1", "kube-apiserver", "start")
        place.fault("cut")
        place.is_left("dead")
        place.fault("heal")


def links(mesh):
    """a link loses packets: nothing moves; it lets no UDP through: the cluster is cut off, and left"""
    if not can_break(mesh):
        return
    with elsewhere(mesh) as place:
        place.fault("loss", "2")
        place.stays("alive", "behind a link that loses 2 of 100 packets")
        place.fault("loss", "0")
        place.fault("udp", "off")
        place.is_left("cutOff")
        place.fault("udp", "on")


def unheard(mesh):
    """a cluster's control and member are gone, its workloads live: it is blind to others, and nothing moves"""
    if not can_break(mesh):
        return
    with elsewhere(mesh) as place:
        roles = {"deployment/isthmus-control": 2, "statefulset/isthmus-federation": 1}
        for role in roles:
            place.cluster.kubectl("-n", SYSTEM, "scale", role, "--replicas=0")
        eventually("it is blind", lambda: place.standing() == "blind")
        place.stays("blind", "without control and member")
        for role, replicas in roles.items():
            place.cluster.kubectl("-n", SYSTEM, "scale", role, f"--replicas={replicas}")
