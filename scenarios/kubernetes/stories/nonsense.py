"""What is wrong gets one clear answer, and nothing else is touched."""

import json
import time

from kube import Failed, eventually
from mesh import SHOP

ISTHMUS, ISTIO = "isthmus.dev/v1alpha1", "networking.istio.io/v1"
PORTS = 1000


def wrong(mesh):
    """wrong objects of every kind are answered where they are written, with field and reason; none is kept from the rest"""
    cluster = mesh.first
    for version, kind, spec, words in [
        (ISTHMUS, "FailoverPolicy", {"leave": {"healthyShare": 1.5}}, "write a number above 0, at most 1"),
        (ISTHMUS, "FailoverPolicy", {"tier": ["x"]}, 'unknown field "spec.tier"'),
        (ISTHMUS, "FailoverPolicy", {"leave": {"errorRate": {"above": 0.1, "below": 0.5, "over": "10s"}}}, "must not be above"),
        (ISTHMUS, "FailoverPolicy", {"failback": {"after": "soon"}}, "it is no duration"),
        (ISTHMUS, "MeshCluster", {"operators": 5}, "must be of type array"),
        ("multicluster.x-k8s.io/v1alpha1", "ServiceImport", {"type": "Odd", "ports": [{"port": 1}]}, "supported values"),
        (ISTIO, "DestinationRule", {"host": "details", "trafficPolicy": {"loadBalancer": {"simple": "FASTEST"}}}, "supported values"),
    ]:
        eventually(f"{kind} {spec} is refused", lambda: cluster.refuses(document(version, kind, spec), words), seconds=30)
    # What an Istio may understand is taken, with a warning.
    odd = {"hosts": ["details"], "http": [{"match": [{"uri": {"regex": "("}}], "route": [{"destination": {"host": "details"}}]}]}
    def warned():
        said = cluster.warned("apply", "-f", "-", text=document(ISTIO, "VirtualService", odd))
        cluster.kubectl("-n", SHOP, "delete", "virtualservice", "wrong")
        if "spec.http[0].match[0].uri" not in said:
            raise Failed(f"it is taken without a word of it: {said}")
        return True
    eventually("a warning of a route that is not supported", warned, seconds=30)
    eventually("details are served", lambda: mesh.served_by(cluster, "details"))


# Nobody can know of these when they are written.
DOUBTFUL = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: doubtful, namespace: bookinfo}
spec: {hosts: [doubted], http: [{route: [{destination: {host: HOST}}]}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: doubtful, namespace: bookinfo}
---
apiVersion: isthmus.dev/v1alpha1
kind: MeshCluster
metadata: {name: doubtful}
---
apiVersion: isthmus.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: before, namespace: bookinfo}
spec: {services: {names: [details]}}
---
apiVersion: isthmus.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: doubtful, namespace: bookinfo}
spec: {services: {names: [details]}}
---
apiVersion: v1
kind: Service
metadata: {name: doubted, namespace: bookinfo, annotations: {isthmus.dev/global: "perhaps"}}
spec: {ports: [{port: 80}]}
"""


def judged(mesh):
    """what nobody could know when it was written stands in the status, of the generation and in a sentence, or is an Event"""
    cluster = mesh.first
    cluster.apply(DOUBTFUL.replace("HOST", "nowhere"))
    for what, condition in [
        ("virtualservice", "ResolvedRefs=False"), ("virtualservice", "Programmed"), ("serviceexport", "Valid=False"),
        ("meshcluster", "Accepted"), ("meshcluster", "Programmed=False"), ("failoverpolicy", "Programmed=False"),
    ]:
        cluster.kubectl("-n", SHOP, "wait", f"{what}/doubtful", f"--for=condition={condition}", "--timeout=180s")
    def said():
        route = cluster.get("-n", SHOP, "virtualservice", "doubtful")
        named = next(one for one in route["status"]["conditions"] if one["type"] == "ResolvedRefs")
        # Where the list is no map a number may come back as it was written.
        return route, named, int(named["observedGeneration"]) == route["metadata"]["generation"]
    _, named, of_now = said()
    if "bookinfo/nowhere" not in named["message"] or not of_now:
        raise Failed(f"a route to nowhere is told so: {named}")
    cluster.apply(DOUBTFUL.replace("HOST", "details"))
    eventually("the route is judged anew", lambda: (now := said())[1]["status"] == "True" and now[2])
    eventually("the Service is told of", lambda: "perhaps" in cluster.kubectl(
        "-n", SHOP, "get", "events", "--field-selector=involvedObject.kind=Service,involvedObject.name=doubted"))
    def settled():
        before = said()[0]
        time.sleep(2)
        if said()[0]["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise Failed(f"it is written again and again: {before}")
        return True
    eventually("a status that stays", settled, seconds=30)
    cluster.kubectl("delete", "-f", "-", text=DOUBTFUL)


def document(version, kind, spec):
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": "wrong", "namespace": SHOP}, "spec": spec})


def flooded(mesh):
    """a webhook that gets 200 malformed reviews a second answers each, and goes on injecting"""
    cluster = mesh.first
    hook = "https://isthmus-control.isthmus-system.svc"
    cluster.exec(SHOP, "deploy/load", "load", "sh", "-c", f"""
        echo '{{"kind":"AdmissionReview",' >/tmp/half; head -c 20000 /dev/urandom >/tmp/junk
        printf 'POST {hook}/inject\nContent-Type: application/json\n@/tmp/junk\n\n' >/tmp/reviews
        printf 'POST {hook}/validate\nContent-Type: application/json\n@/tmp/half\n' >>/tmp/reviews
        rm -f /tmp/flooded; {{ vegeta attack -insecure -rate=200 -duration=10s -timeout=60s -targets=/tmp/reviews -output=/tmp/flood
        touch /tmp/flooded; }} >/dev/null 2>&1 &""")
    # Held up for longer than the API server waits, a pod is refused, and is made again by whoever made it.
    eventually("a pod is made meanwhile", lambda: cluster.kubectl(
        "-n", SHOP, "run", "meanwhile", f"--image={mesh.client}", "--image-pull-policy=IfNotPresent",
        "--command", "--", "sleep", "1000000"))
    pod = cluster.get("-n", SHOP, "pod", "meanwhile")
    if "isthmus-proxy" not in [one["name"] for one in pod["spec"].get("initContainers", [])]:
        raise Failed("a pod that was made meanwhile has no sidecar")
    cluster.kubectl("-n", SHOP, "delete", "pod", "meanwhile", "--wait=false", "--grace-period=1")
    report = json.loads(eventually("the flood ends", lambda: cluster.exec(
        SHOP, "deploy/load", "load", "sh", "-c", "[ -e /tmp/flooded ] && vegeta report -type=json /tmp/flood || true")))
    print(f"   {report['requests']} reviews, answered {report['status_codes']}, slowest {report['latencies']['max'] / 1e6:.0f} ms")
    # Those that a control which was held up finds waiting at once may be more than it has places for: they are told so.
    answers = report["status_codes"]
    if answers.get("400", 0) + answers.get("429", 0) != report["requests"] or answers.get("400", 0) < report["requests"] / 2:
        raise Failed(f"malformed reviews are answered by {report['status_codes']}: {report['errors'][:3]}")


def wide(mesh):
    """a Service of 1,000 ports is served by each of them"""
    cluster = mesh.first
    ports = [{"name": f"p{at}", "port": 10000 + at, "targetPort": 9080} for at in range(PORTS)]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wide", "namespace": SHOP},
                              "spec": {"selector": {"app": "details"}, "ports": ports}}))
    for at in [0, PORTS - 1]:
        eventually(f"port {10000 + at}", lambda: mesh.get(cluster, f"http://wide:{10000 + at}/details/0")[0] == 200)
    eventually("details are served", lambda: mesh.served_by(cluster, "details"))
    cluster.kubectl("-n", SHOP, "delete", "service", "wide")
