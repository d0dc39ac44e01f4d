"""One channels_redis channel layer, driven over stdin and stdout.

Arguments: the layer's class, and its CONFIG as JSON, for example
    layer.py channels_redis.core.RedisChannelLayer '{"hosts": ["redis://127.0.0.1:6379/0"]}'

One JSON object a line comes in, one goes out for each; commands run one after another,
in the order they came. Commands:
    {"op": "ping"}
    {"op": "send", "events": [[group, text], ...]}      events as AWX emits them, in order
    {"op": "message", "group": g, "message": {...}}     any message
    {"op": "literal", "group": g, "message": "..."}     any message, as a Python expression
    {"op": "pace", "group": g, "count": n, "interval": seconds, "start": i}
        sends {"n": i}, {"n": i+1}, ...; goes on when Redis is away. The answer lists the
        times (Unix seconds) after each send and the indices of the sends that raised.
        With "store": redis URL it appends each index to the list "job_events:<group>" before it
        sends the event, as AWX writes to its database before it emits.
        With "message": {...} it sends that, with the members n and text ("m<n>") beside.
        It runs beside other commands, so that there is traffic during what they do.
    {"op": "stop"}                                      ends all pacing early
    {"op": "join", "group": g} / {"op": "leave", "group": g}
        from then on a line {"received": {...}} comes for every message
    {"op": "wipe", "url": redis URL, "pattern": "asgi:*"}   what AWX does when it starts
    {"op": "members", "url": redis URL, "group": g}     the raw members of a group
Answers: {"id": the command's, "ok": true, ...} or {"id": ..., "error": "..."}.
"""

import asyncio
import base64
import importlib
import json
import os
import sys
import time
import traceback

from redis import asyncio as redis


def encode(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"cannot put {type(value).__name__} into JSON")


def say(answer):
    sys.stdout.write(json.dumps(answer, default=encode) + "\n")
    sys.stdout.flush()


def event(text):
    return {"type": "internal.message", "text": text, "needs_relay": True}


class Driver:
    def __init__(self, layer):
        self.layer = layer
        self.channel = None
        self.stopping = asyncio.Event()
        self.tasks = set()

    async def ping(self, command):
        return {}

    async def send(self, command):
        for group, text in command["events"]:
            await self.layer.group_send(group, event(text))
        return {"sent": len(command["events"])}

    async def message(self, command):
        await self.layer.group_send(command["group"], command["message"])
        return {}

    async def literal(self, command):
        message = eval(command["message"], {"inf": float("inf"), "nan": float("nan")})
        await self.layer.group_send(command["group"], message)
        return {}

    async def pace(self, command):
        self.stopping.clear()
        times, failed = [], []

        def numbered(index):
            if "message" in command:
                return {**command["message"], "n": index, "text": f"m{index}"}
            return event(json.dumps({"n": index}))

        start, due = command["start"], time.monotonic()
        store = redis.from_url(command["store"]) if "store" in command else None
        for index in range(start, start + command["count"]):
            if self.stopping.is_set():
                break
            try:
                if store is not None:
                    await store.rpush("job_events:" + command["group"], index)
                await self.layer.group_send(command["group"], numbered(index))
            except Exception as error:
                failed.append(index)
                print(f"send {index}: {error}", file=sys.stderr)
            times.append(time.time())
            due += command["interval"]
            await asyncio.sleep(max(0, due - time.monotonic()))
        return {"times": times, "failed": failed}

    async def stop(self, command):
        self.stopping.set()
        return {}

    async def join(self, command):
        if self.channel is None:
            self.channel = await self.layer.new_channel()
            self.keep(self.receive())
        await self.layer.group_add(command["group"], self.channel)
        return {"channel": self.channel}

    async def leave(self, command):
        await self.layer.group_discard(command["group"], self.channel)
        return {}

    async def receive(self):
        while True:
            say({"received": await self.layer.receive(self.channel)})

    async def wipe(self, command):
        client = redis.Redis.from_url(command["url"])
        deleted = 0
        async for key in client.scan_iter(command["pattern"]):
            deleted += await client.delete(key)
        await client.close()
        return {"deleted": deleted}

    async def members(self, command):
        client = redis.Redis.from_url(command["url"])
        names = await client.zrange(self.layer._group_key(command["group"]), 0, -1)
        await client.close()
        return {"members": [name.decode() for name in names]}

    def keep(self, coroutine):
        """Runs a coroutine beside the commands; a failure of it ends the process."""

        def done(task):
            self.tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                traceback.print_exception(error)
                os._exit(1)

        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(done)

    async def answer(self, command):
        try:
            result = await getattr(self, command["op"])(command)
            say({"id": command["id"], "ok": True, **result})
        except Exception as error:
            say({"id": command["id"], "error": f"{type(error).__name__}: {error}"})

    async def run(self):
        reader = asyncio.StreamReader(limit=1 << 26)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            if command["op"] == "pace":
                self.keep(self.answer(command))
            else:
                await self.answer(command)


def main():
    path, config = sys.argv[1], json.loads(sys.argv[2])
    module, name = path.rsplit(".", 1)
    layer = getattr(importlib.import_module(module), name)(**config)
    asyncio.run(Driver(layer).run())


if __name__ == "__main__":
    main()
