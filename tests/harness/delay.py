"""Joins taps of the network namespace it runs in as a switch that is slow.

    delay.py PORTS DELAY JITTER

Each whole Ethernet frame between two of the taps t1, t2, … arrives DELAY
milliseconds later, give or take JITTER: also before one that was sent earlier.
What comes from t0 or goes there passes at once. Says `ready` when it is.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP_WITHOUT_HEADER = 0x1002
FRAME = 65536
# Frames on their way at most; further ones are lost, as in a router.
MOST = 20_000


def tap(number):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"t%d" % number, IFF_TAP_WITHOUT_HEADER))
    return fd


def write(fd, frame):
    try:
        os.write(fd, frame)
    except OSError:
        pass  # The far end's queue is full, or it is down: the frame is lost.


def main():
    ports, delay, jitter = int(sys.argv[1]), float(sys.argv[2]) / 1000, float(sys.argv[3]) / 1000
    taps = [tap(number) for number in range(ports + 1)]
    numbers = {fd: number for number, fd in enumerate(taps)}
    poll = select.epoll()
    for fd in taps:
        poll.register(fd, select.EPOLLIN)
    chance = random.Random(1)
    known, waiting, count = {}, [], 0
    print("ready", flush=True)
    while True:
        pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for fd, _ in poll.poll(pause):
            while True:
                try:
                    frame = os.read(fd, FRAME)
                except BlockingIOError:
                    break
                here, target = numbers[fd], frame[0:6]
                known[frame[6:12]] = here
                # What is for everyone, or for nobody known, goes to everyone else.
                there = [known[target]] if target in known else range(ports + 1)
                for port in there:
                    if port == here:
                        continue
                    if here == 0 or port == 0:
                        write(taps[port], frame)
                    elif len(waiting) < MOST:
                        count += 1
                        due = time.monotonic() + delay + chance.uniform(-jitter, jitter)
                        heapq.heappush(waiting, (due, count, taps[port], frame))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, fd, frame = heapq.heappop(waiting)
            write(fd, frame)


main()
