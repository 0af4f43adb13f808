"""A cluster as kubectl and helm reach it, the command isthmus, and waiting."""

import json
import os
import pathlib
import re
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


# A request that the API server had no time for, as kubectl tells it.
UNHEARD = re.compile(
    "connection refused|TLS handshake timeout|error dialing backend|currently unable to handle the request|"
    "etcdserver: (request timed out|leader changed)")


class Failed(Exception):
    """Something did not come about, or a command failed."""


def run(command, text=None, environment=None, timeout=420, directory=ROOT):
    """Runs a command; what it printed. Its limit is longer than those that commands are given themselves."""
    words = [str(part) for part in command]
    try:
        ran = subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=timeout, cwd=directory, env=os.environ | (environment or {}))
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(words)}: not within {timeout} s") from late
    if ran.returncode:
        raise Failed(f"{' '.join(words)}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}".strip())
    return ran.stdout


def eventually(what, look, seconds=180):
    """Looks again and again until `look` gives something true, and gives that."""
    until, last = time.monotonic() + seconds, None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except (Failed, json.JSONDecodeError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {seconds} s; last: {last}")
        time.sleep(0.3)


class Cluster:
    """One cluster of Kubernetes."""

    def __init__(self, name, kubeconfig):
        self.name, self.kubeconfig = name, kubeconfig

    def kubectl(self, *arguments, text=None, timeout=420):
        """What kubectl prints. Where an API server had no time to begin with it, it is asked once more, and then again."""
        for is_last in [False, False, True]:
            try:
                return run(["kubectl", "--kubeconfig", self.kubeconfig, *arguments], text=text, timeout=timeout)
            except Failed as failed:
                if is_last or not UNHEARD.search(str(failed)):
                    raise
                time.sleep(1)

    def warned(self, *arguments, text=None):
        """What kubectl says beside its answer."""
        command = ["kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run([str(part) for part in command], input=text, capture_output=True, text=True, timeout=180).stderr

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, text):
        return self.kubectl("apply", "-f", "-", text=text)

    def refuses(self, text, words):
        """It is not taken, and the answer says these words. Where a webhook has no time the API server does as it was told to."""
        try:
            self.apply(text)
        except Failed as failed:
            if words not in str(failed):
                raise
            return True
        self.kubectl("delete", "-f", "-", text=text)
        raise Failed(f"it was taken: {text}")

    def helm(self, *arguments):
        return run(["helm", "--kubeconfig", self.kubeconfig, *arguments])

    def rolled_out(self, namespace, what, seconds=300):
        self.kubectl("-n", namespace, "rollout", "status", what, f"--timeout={seconds}s", timeout=seconds + 10)

    def pods(self, namespace, selector):
        return self.get("-n", namespace, "pods", "-l", selector)["items"]

    def exec(self, namespace, what, container, *command, timeout=60):
        return self.kubectl("-n", namespace, "exec", what, "-c", container, "--", *command, timeout=timeout)

    def admin(self, namespace, pod, path):
        """What the admin port of a mesh's process in a pod answers; it listens on loopback alone."""
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", namespace, "port-forward", f"pod/{pod}", ":15000"]
        with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as forwarding:
            try:
                told = forwarding.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", told)
                if not found:
                    raise Failed(f"no way to the admin port of {pod}: {told}")
                with urllib.request.urlopen(f"http://127.0.0.1:{found.group(1)}{path}", timeout=10) as answer:
                    return json.load(answer)
            except OSError as error:
                raise Failed(f"the admin port of {pod}: {error}") from error
            finally:
                forwarding.terminate()


class Isthmus:
    """The operator's command."""

    def __init__(self, binary):
        self.binary = binary

    def __call__(self, cluster, *arguments, text=None):
        return run([self.binary, "--kubeconfig", cluster.kubeconfig, *arguments], text=text)

    def rows(self, cluster, *arguments):
        return json.loads(self(cluster, *arguments, "-o", "json"))
