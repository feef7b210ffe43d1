#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Usage: packets.py ADDRESS PORT NUMBER

Sends so many small packets of UDP to an echo, at most 32 at a time, and looks whether each comes back once, as it was.
"""
import os
import socket
import struct
import sys
import time

WINDOW = 32
PATIENCE = 60  # seconds without any packet
RANDOM = os.urandom(65536)


def packet(number):
    """8 to 63 bytes."""
    start = number * 7919 % 60000
    return struct.pack("!Q", number) + RANDOM[start:start + number % 56]


def receive(s, wanted):
    """Takes away those that come."""
    while wanted:
        got = s.recv(2048)
        number = struct.unpack("!Q", got[:8])[0]
        if got != wanted.pop(number, None) and number != EARLY:
            sys.exit(f"packet {number} came back twice, or changed")


EARLY = 1 << 62
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(1)
end = time.monotonic() + PATIENCE
while True:  # until somebody listens there
    try:
        s.send(packet(EARLY))
        s.recv(2048)
        break
    except OSError as e:
        if time.monotonic() > end:
            sys.exit(f"no echo: {e}")
s.settimeout(PATIENCE)
total = int(sys.argv[3])
for first in range(0, total, WINDOW):
    sent = {n: packet(n) for n in range(first, min(first + WINDOW, total))}
    for data in sent.values():
        s.send(data)
    try:
        receive(s, sent)
    except TimeoutError:
        sys.exit(f"lost: {sorted(sent)}")
