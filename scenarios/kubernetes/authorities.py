"""Certificate authorities as Istio's documentation ("Plug in CA Certificates") has one make them with openssl: a root, an
intermediate of it for a cluster, and four files in the Secret cacerts."""

import pathlib

from kube import run

SECRET = "cacerts"
FILES = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"]
REQUEST = """
[ req ]
encrypt_key = no
prompt = no
utf8 = yes
default_md = sha256
default_bits = 4096
req_extensions = req_ext
x509_extensions = req_ext
distinguished_name = req_dn
[ req_dn ]
O = Istio
"""
SIGNS = """
[ req_ext ]
subjectKeyIdentifier = hash
basicConstraints = critical, CA:true
keyUsage = critical, digitalSignature, nonRepudiation, keyEncipherment, keyCertSign
"""
SIGNS_NOT = """
[ req_ext ]
subjectKeyIdentifier = hash
basicConstraints = critical, CA:false
"""


def openssl(folder, *arguments):
    return run(["openssl", *arguments], directory=folder)


class Root:
    """A root of an organisation, which intermediates of several clusters may have in common."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        (self.folder / "root-ca.conf").write_text(REQUEST + "CN = Root CA\n" + SIGNS)
        openssl(folder, "genrsa", "-out", "root-key.pem", "4096")
        openssl(folder, "req", "-new", "-key", "root-key.pem", "-config", "root-ca.conf", "-out", "root-cert.csr")
        openssl(folder, "x509", "-req", "-days", "3650", "-signkey", "root-key.pem", "-extensions", "req_ext",
                "-extfile", "root-ca.conf", "-in", "root-cert.csr", "-out", "root-cert.pem")

    def intermediate(self, cluster, days=730, extensions=SIGNS):
        """The four files of a cluster, by name; all intermediates of a cluster have one subject, as Istio's have."""
        folder = self.folder / f"{cluster}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        (folder / "intermediate.conf").write_text(REQUEST + f"CN = Intermediate CA\nL = {cluster}\n" + extensions)
        openssl(folder, "genrsa", "-out", "ca-key.pem", "4096")
        openssl(folder, "req", "-new", "-config", "intermediate.conf", "-key", "ca-key.pem", "-out", "cluster-ca.csr")
        openssl(folder, "x509", "-req", "-days", str(days), "-CA", "../root-cert.pem", "-CAkey", "../root-key.pem",
                "-CAcreateserial", "-extensions", "req_ext", "-extfile", "intermediate.conf", "-in", "cluster-ca.csr",
                "-out", "ca-cert.pem")
        root, signing = (self.folder / "root-cert.pem").read_text(), (folder / "ca-cert.pem").read_text()
        return {"ca-cert.pem": signing, "ca-key.pem": (folder / "ca-key.pem").read_text(),
                "root-cert.pem": root, "cert-chain.pem": signing + root}


def key(files):
    """The identifier of the key that signs, as leaves name it."""
    told = run(["openssl", "x509", "-noout", "-ext", "subjectKeyIdentifier"], text=files["ca-cert.pem"])
    return told.splitlines()[-1].strip().replace(":", "").lower()


def bring(cluster, namespace, files, folder):
    """Puts the Secret in the place of the one that is there, as kubectl does it."""
    folder = pathlib.Path(folder)
    for name, text in files.items():
        (folder / name).write_text(text)
    secret = cluster.kubectl(
        "-n", namespace, "create", "secret", "generic", SECRET, "--dry-run=client", "-o", "yaml",
        *[f"--from-file={folder / name}" for name in files])
    cluster.apply(secret)
