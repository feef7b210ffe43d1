#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Until SIGTERM, have a thread on each processor that nothing else keeps from running. Then print for how many
milliseconds one of them could not run at most: so long the machine itself stood still, as one does in a lab when the
host is busy."""

import os
import signal
import threading
import time

TURN = 0.02
longest = {}


def watch(cpu):
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    while True:
        before = time.monotonic()
        time.sleep(TURN)
        longest[cpu] = max(longest.get(cpu, 0), time.monotonic() - before - TURN)


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
for processor in os.sched_getaffinity(0):
    threading.Thread(target=watch, args=(processor,), daemon=True).start()
signal.sigwait({signal.SIGTERM})
print(int(1000 * max(longest.values(), default=0)))
