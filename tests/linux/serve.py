#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Usage: serve.py DIR SINK WEB [names]

What guests find at the host's end of a network: the files of DIR/web by HTTP at WEB, port 8000, and at SINK, port
9000, somebody who keeps in DIR/received what comes, and makes DIR/received.whole at its end. With "names", a name
server at SINK, too.
"""
import functools
import http.server
import socket
import sys
import threading

work, sink_address, web_address = sys.argv[1:4]


def sink():
    s = socket.create_server((sink_address, 9000))
    while True:
        c = s.accept()[0]
        with open(work + "/received", "wb") as f:
            while data := c.recv(65536):
                f.write(data)
        open(work + "/received.whole", "w").close()
        c.close()


def names():
    """Each name has the address 198.51.100.7, and no other."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sink_address, 53))
    while True:
        query, peer = s.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4:end - 2] == b"\0\1"
        answer = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0" + query[12:end]
        if is_a:
            answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([198, 51, 100, 7])
        s.sendto(answer, peer)


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in web_address else socket.AF_INET


threading.Thread(target=sink, daemon=True).start()
if "names" in sys.argv[4:]:
    threading.Thread(target=names, daemon=True).start()
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=work + "/web")
Server((web_address, 8000), handler).serve_forever()
