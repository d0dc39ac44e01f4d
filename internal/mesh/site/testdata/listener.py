"""Receives events by channels_redis, as the consumers of a Python node do, and prints their numbers.

Arguments: Redis URL, number of groups. For each event with the text {"mesh": "<emitter> <n>", ...} it prints
: "<emitter> <n>". After a line on its standard input, it announces its groups to the nodes that have dialed this one, as
AWX 22 and later do for a page that subscribes.
"""

import asyncio
import sys

from channels_redis.core import RedisChannelLayer


async def main(url, groups):
    layer = RedisChannelLayer(hosts=[url], capacity=10000, group_expiry=157784760)
    channel = await layer.new_channel()
    names = ["job_events-%d" % g for g in range(groups)]
    for name in names:
        await layer.group_add(name, channel)
    loop = asyncio.get_running_loop()

    async def announce():
        while await loop.run_in_executor(None, sys.stdin.readline):
            message = {"type": "consumer.subscribe", "groups": names, "origin_channel": channel}
            await layer.group_send("broadcast-group_send", message)

    announcing = asyncio.ensure_future(announce())
    print("joined", flush=True)
    while not announcing.done():
        text = (await layer.receive(channel)).get("text", "")
        if text.startswith('{"mesh"'):
            print(text[7 : text.index(",")], flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
