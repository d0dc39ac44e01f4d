"""Publishes numbered events by channels_redis, at a steady pace, and reports each.

Arguments: Redis URL, the emitter's name, number of groups, events a second.
Each event is {"emitter": name, "group": g, "n": 0, 1, ... for the emitter and group, "pad": "..."} in the group
job_events-<g>. Each report is a line: <g> <n> ok|error, in the order of publication; an event with an error may have
been sent or not. The emitter ends when its standard input ends.
"""

import asyncio
import random
import sys

from channels_redis.core import RedisChannelLayer


async def until_stdin_ends(stop):
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    stop.set()


async def main(url, name, groups, rate):
    layer = RedisChannelLayer(hosts=[url], capacity=10000, group_expiry=157784760)
    stop = asyncio.Event()
    watching = asyncio.create_task(until_stdin_ends(stop))
    loop = asyncio.get_running_loop()
    chance = random.Random(name)
    sent = [0] * groups
    began, count = loop.time(), 0
    while not stop.is_set():
        due = (loop.time() - began) * rate
        if count >= due:
            sys.stdout.flush()
            await asyncio.sleep(0.01)
            continue
        count = max(count + 1, int(due) - int(rate))  # after a pause, at most a second's worth at once
        group = chance.randrange(groups)
        n, sent[group] = sent[group], sent[group] + 1
        text = '{"emitter": "%s", "group": %d, "n": %d, "pad": "%s"}' % (name, group, n, "x" * 220)
        message = {"type": "internal.message", "text": text, "needs_relay": True}
        try:
            await asyncio.wait_for(layer.group_send("job_events-%d" % group, message), 5)
            result = "ok"
        except Exception as error:  # Redis is away
            print(repr(error), file=sys.stderr)
            result = "error"
            await asyncio.sleep(0.05)
        print(group, n, result)
    sys.stdout.flush()
    await watching


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
