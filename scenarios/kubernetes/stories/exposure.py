"""How gateways are exposed: each form between real clusters, as a user sets it."""

from kube import ROOT, Failed, eventually
from mesh import SERVICES, SHOP, SYSTEM

CHART = ROOT / "deploy/helm/isthmus"
# What each form has in place of the one Service of type LoadBalancer that all others begin with.
BEGINNING = "LoadBalancer"


def balancer(cluster, transport):
    """One Service for both."""
    return ingress(cluster, "isthmus-gateway")


def balancers(cluster, transport):
    """A Service of its own for each."""
    return ingress(cluster, f"isthmus-gateway-{transport}")


def ingress(cluster, name):
    return [f"{one['ip']}:15443" for one in cluster.get("-n", SYSTEM, "service", name)["status"]["loadBalancer"]["ingress"]]


def node_ports(cluster, transport):
    """The port that the transport got, of every node."""
    ports = cluster.get("-n", SYSTEM, "service", "isthmus-gateway")["spec"]["ports"]
    [port] = [one["nodePort"] for one in ports if one["protocol"] == transport.upper()]
    return [f"{address}:{port}" for address in nodes(cluster).values()]


def host_ports(cluster, transport):
    """The port itself, of the nodes that gateways run on."""
    own = {pod["spec"]["nodeName"] for pod in cluster.pods(SYSTEM, "app.kubernetes.io/component=gateway")}
    return [f"{address}:15443" for name, address in nodes(cluster).items() if name in own]


def nowhere(cluster, transport):
    """Nobody dials it: the others go by the tunnels that it dialled."""
    return []


def nodes(cluster):
    """What others are told of each node: its external address, else the internal one."""
    def address(node):
        of = {one["type"]: one["address"] for one in node["status"]["addresses"]}
        return of.get("ExternalIP") or of["InternalIP"]
    return {node["metadata"]["name"]: address(node) for node in cluster.get("nodes")["items"]}


# A round gives each cluster, in their order, a form and where the others then reach its gateways by a transport. The third
# cluster is set by `isthmus upgrade`, which offers no host ports.
ROUNDS = [
    [("LoadBalancerPerProtocol", balancers), ("HostPort", host_ports), ("NodePort", node_ports)],
    [(BEGINNING, balancer), ("DialOut", nowhere), (BEGINNING, balancer)],
    [(BEGINNING, balancer)] * 3,
]


def exposure(mesh):
    """load balancers one a protocol, host ports, node ports, dialling out alone: others find the way, and requests go both ways"""
    if not mesh.asked.exposure:
        return print("   without --exposure clusters are not held to reach each other's nodes", flush=True)
    serves = parted(mesh)
    for forms in ROUNDS:
        for cluster, (form, _) in zip(mesh.clusters, forms):
            expose(mesh, cluster, form)
        for cluster, (form, told) in zip(mesh.clusters, forms):
            for caller in mesh.clusters:
                if caller is not cluster:
                    reached(mesh, caller, cluster, told, serves[cluster.name])
            eventually(f"nothing is wrong with {cluster.name}", lambda: mesh.isthmus(cluster, "check"))
            print(f"   {cluster.name} by {form}: {', '.join(listed(cluster, told)) or 'by what it dialled'}", flush=True)
    together(mesh)


def parted(mesh):
    """Each cluster serves what no other does: so each is called by both others. Which service is whose."""
    serves = {cluster.name: service for cluster, service in zip(mesh.clusters, SERVICES)}
    for cluster in mesh.clusters:
        for service in SERVICES:
            if service != serves[cluster.name]:
                scale(cluster, service, 0)
    return serves


def together(mesh):
    """Each cluster serves all of it again."""
    for cluster in mesh.clusters:
        for service in SERVICES:
            scale(cluster, service, 2)
    for cluster in mesh.clusters:
        cluster.kubectl("-n", SHOP, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=120s")


def scale(cluster, service, replicas):
    cluster.kubectl("-n", SHOP, "scale", "deployment", "-l", f"app={service}", f"--replicas={replicas}")


def expose(mesh, cluster, form):
    """Sets the form as the cluster was installed, by Helm or by our command."""
    # Two gateways cannot have the same port of one node.
    replicas = min(2, len(nodes(cluster))) if form == "HostPort" else 2
    values = [f"gateway.exposure={form}", f"gateway.replicas={replicas}"]
    arguments = [word for value in values for word in ("--set", value)]
    if cluster is mesh.third:
        mesh.isthmus(cluster, "upgrade", *arguments)
    else:
        cluster.helm("upgrade", "isthmus", CHART, "-n", SYSTEM, "--reset-then-reuse-values", "--wait", *arguments)


def reached(mesh, caller, cluster, told, service):
    """The caller knows where the gateways are, its tunnels go there, and calls are answered."""
    def row():
        [row] = [one for one in mesh.isthmus.rows(caller, "clusters") if one["name"] == cluster.name]
        seen, there = (row["standing"], row["transport"], sorted(row["gateways"])), ("alive", "quic", listed(cluster, told))
        if seen != there:
            raise Failed(f"{caller.name} sees {cluster.name} as {seen}, not {there}")
        return True
    eventually(f"{caller.name} sees {cluster.name}", row)
    eventually(f"{caller.name} is served by {cluster.name}",
               lambda: mesh.served_by(caller, service)[1] == cluster.name)
    def passed():
        hops = mesh.isthmus.rows(caller, "trace", f"curl@{caller.name}", f"{service}.{SHOP}:9080/{service}/0")
        by = [hop["detail"] for hop in hops if hop["hop"] == "gateway"]
        ways = [f"{cluster.name}/{address}/" for address in told(cluster, "udp")] or ["/in,"]
        if not any(way in detail for detail in by for way in ways):
            raise Failed(f"the way from {caller.name} is {by or hops}")
        return hops[-1]["ok"]
    eventually(f"a trace by a gateway of {cluster.name}", passed)


def listed(cluster, told):
    """The addresses as they are listed: with their transport where they have but one."""
    udp, tcp = told(cluster, "udp"), told(cluster, "tcp")
    only = [f"{one}/udp" for one in udp if one not in tcp] + [f"{one}/tcp" for one in tcp if one not in udp]
    return sorted(only + [one for one in udp if one in tcp])
