"""An application: HTTP that says who asks, and a server that speaks first. Arguments: name, HTTP port, greeter's ports."""

import http.server
import socket
import socketserver
import sys
import threading


def plain(address):
    return address.removeprefix("::ffff:")


class Dual(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        said = self.headers.get("x-forwarded-client-cert", "nobody")
        host = self.headers.get("host")
        text = f"{NAME} for {said} at {plain(self.client_address[0])} host {host} path {self.path}\n".encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Greeter(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(f"220 {NAME} greets {plain(self.client_address[0])}\r\n".encode())
        for line in self.rfile:
            self.wfile.write(b"250 " + line)


NAME = sys.argv[1]
servers = [Dual(("::", int(sys.argv[2])), Web)] + [Dual(("::", int(port)), Greeter) for port in sys.argv[3:]]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
servers[0].serve_forever()
