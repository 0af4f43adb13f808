"""A cluster's DNS: answers A questions for the names it is given with their addresses, over UDP and TCP, and long TXT
answers that only fit TCP. Arguments: address, name=address."""

import socket
import socketserver
import struct
import sys
import threading

KNOWN = dict(pair.split("=") for pair in sys.argv[2:])


def answer(question, cut):
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode().lower())
        at += 1 + question[at]
    end = at + 5
    (kind,) = struct.unpack(">H", question[at + 1 : at + 3])
    name, records, code, flags = ".".join(labels), [], 0, 0x8580
    if kind == 16:
        if cut:
            flags |= 0x0200
        else:
            records = [bytes([250]) + bytes([97 + number]) * 250 for number in range(10)]
    elif name not in KNOWN:
        code = 3
    elif kind == 1:
        records = [socket.inet_aton(KNOWN[name])]
    head = question[:2] + struct.pack(">HHHHH", flags | code, 1, len(records), 0, 0)
    record = lambda data: struct.pack(">HHHIH", 0xC00C, kind, 1, 5, len(data)) + data
    return head + question[12:end] + b"".join(map(record, records))


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(answer(self.request[0], True), self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        while length := self.rfile.read(2):
            said = answer(self.rfile.read(struct.unpack(">H", length)[0]), False)
            self.wfile.write(struct.pack(">H", len(said)) + said)


socketserver.ThreadingTCPServer.allow_reuse_address = True
udp = socketserver.ThreadingUDPServer((sys.argv[1], 53), Udp)
tcp = socketserver.ThreadingTCPServer((sys.argv[1], 53), Tcp)
threading.Thread(target=tcp.serve_forever, daemon=True).start()
print("ready", flush=True)
udp.serve_forever()
