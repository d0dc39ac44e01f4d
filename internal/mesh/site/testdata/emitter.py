"""Publishes numbered events by channels_redis, at a steady pace, and reports each.

Arguments: Redis URL, index of the emitter, number of groups, events a second, length of an event in bytes, the kind of its
padding: "text", which compresses as AWX's events do, or "random", which does not, and the way to mark events for other
nodes: "relay" as AWX 22 and later do, "broadcast" as earlier versions do.
Event n is {"mesh": "<index> <n>", "pad": "..."} in the group job_events-<n % groups>. Each report is a line: <n> <Unix microseconds> ok|error, in the order of publication; an event with an error may
have been sent or not. The emitter begins after a line on its standard input and ends when that ends.
"""

import asyncio
import base64
import json
import os
import sys
import time

from channels_redis.core import RedisChannelLayer


def padding(kind, length):
    """Returns a function from an event's number to its padding."""
    if kind == "random":
        return lambda n: base64.b64encode(os.urandom(length * 3 // 4 + 3)).decode()[:length]
    line = '\\"changed\\": false, \\"host\\": \\"web-%d\\", \\"duration\\": %f, \\"task\\": \\"wait for port\\", '

    def text(n):
        out = "".join(line % (n + i, (n * 7919 + i * 104729) % 1000003 / 1000) for i in range(length // 70 + 1))
        return out[:length].rstrip("\\")

    return text


async def main(url, index, groups, rate, length, kind, mark):
    layer = RedisChannelLayer(hosts=[url], capacity=10000, group_expiry=157784760)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    ending = loop.run_in_executor(None, sys.stdin.read)
    pad = padding(kind, max(0, length - 30))
    began, n = loop.time(), 0
    while not ending.done():
        if n >= (loop.time() - began) * rate:
            sys.stdout.flush()
            await asyncio.sleep(0.005)
            continue
        text = '{"mesh": "%d %d", "pad": "%s"}' % (index, n, pad(n))
        group = "job_events-%d" % (n % groups)
        message = {"type": "internal.message", "text": text}
        if mark == "relay":
            message["needs_relay"] = True
        at = time.time()
        try:
            await asyncio.wait_for(layer.group_send(group, message), 5)
            if mark == "broadcast":
                wrapped = {"type": "internal.message", "text": json.dumps({"group": group, "message": text})}
                await asyncio.wait_for(layer.group_send("broadcast-group_send", wrapped), 5)
            result = "ok"
        except Exception as error:  # Redis is away
            print(repr(error), file=sys.stderr)
            result = "error"
            await asyncio.sleep(0.05)
        print(n, int(at * 1e6), result)
        n += 1
    sys.stdout.flush()


arguments = sys.argv[1:]
arguments[1:5] = int(arguments[1]), int(arguments[2]), float(arguments[3]), int(arguments[4])
asyncio.run(main(*arguments))
