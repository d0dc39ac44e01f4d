"""The dialling side of a Python node: what AWX's wsbroadcast and wsrelay do.

    python3 -m cluster.dial broadcast|relay <url>...

CLUSTER_REDIS is the node's own Redis, CLUSTER_SECRET the secret. A connection that ends is
dialled again after CLUSTER_RETRY seconds.
"""

import asyncio
import json
import os
import sys

import aiohttp
from channels_redis.core import RedisChannelLayer

from .secret import header

RETRY = float(os.environ.get("CLUSTER_RETRY", "5"))
layer = RedisChannelLayer(hosts=[os.environ["CLUSTER_REDIS"]], capacity=10000, group_expiry=157784760)


async def read_broadcast(socket):
    async for frame in socket:
        if frame.type != aiohttp.WSMsgType.TEXT:
            break
        event = json.loads(frame.data)
        await layer.group_send(event["group"], {"type": "internal.message", "text": event["message"]})


class Feeder:
    """Sends a web node the groups that it asks for."""

    def __init__(self, socket):
        self.socket = socket
        self.wanted = {}  # group -> origin channels
        self.tasks = {}

    async def run(self):
        self.start("metrics", "")
        try:
            async for frame in self.socket:
                if frame.type != aiohttp.WSMsgType.TEXT:
                    break
                message = json.loads(frame.data)
                if message.get("type") == "consumer.subscribe":
                    for group in message["groups"]:
                        self.start(group, message["origin_channel"])
                elif message.get("type") == "consumer.unsubscribe":
                    for group in message["groups"]:
                        self.end(group, message["origin_channel"])
        finally:
            for task in self.tasks.values():
                task.cancel()

    def start(self, group, origin):
        self.wanted.setdefault(group, set()).add(origin)
        if group not in self.tasks:
            self.tasks[group] = asyncio.ensure_future(self.feed(group))
        print(f"wanted {group} {len(self.wanted[group])}", flush=True)

    def end(self, group, origin):
        self.wanted.get(group, set()).discard(origin)
        print(f"wanted {group} {len(self.wanted.get(group, ()))}", flush=True)

    async def feed(self, group):
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        try:
            while self.wanted[group]:
                try:
                    message = await asyncio.wait_for(layer.receive(channel), 2)
                except asyncio.TimeoutError:
                    continue
                if message.get("needs_relay"):  # the feeders of one process share the dict
                    message = {key: value for key, value in message.items() if key != "needs_relay"}
                    await self.socket.send_json({"group": group, "message": message})
        finally:
            await layer.group_discard(group, channel)
            del self.tasks[group]


async def keep(role, url):
    while True:
        try:
            async with aiohttp.ClientSession(headers={"secret": header()}) as session:
                async with session.ws_connect(f"{url}/websocket/{role}/", heartbeat=20) as socket:
                    print(f"connected {url}", flush=True)
                    await (read_broadcast(socket) if role == "broadcast" else Feeder(socket).run())
        except aiohttp.ClientError as error:
            print(f"failed {url} {error}", flush=True)
        print(f"disconnected {url}", flush=True)
        await asyncio.sleep(RETRY)


async def main(role, urls):
    await asyncio.gather(*(keep(role, url) for url in urls))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
