"""A client that misses nothing, for tests and services; needs aiohttp. Prints events, and whether some are missing:

    COOKIE='awx_sessionid=…; csrftoken=…' python3 client.py wss://awx.example.com/websocket/ job_events-42
"""
import asyncio
import json
import os
import random
import sys
from http.cookies import SimpleCookie

import aiohttp


async def follow(url, cookie, groups):
    """Yields ("subscribed", group, None), ("event", group, event), ("recovered", group, count) after a lost connection,
    and ("gap", group, reason) where events are missing. `groups` is as in the protocol: {"job_events": [42]}.
    Reconnects until the relay rejects the login."""
    token = SimpleCookie(cookie)["csrftoken"].value
    seen = {}  # group → its last positions, oldest first: a dict is a set with an order

    def fresh(group, position):
        known = position in seen[group]
        if position:
            seen[group][position] = None
        if len(seen[group]) > 1000:
            del seen[group][next(iter(seen[group]))]
        return not known

    async def frames(session):
        options = {"headers": {"Cookie": cookie}, "heartbeat": 20, "max_msg_size": 0}
        async with session.ws_connect(url, protocols=["edgerelay.events.v1"], **options) as ws:
            async for message in ws:
                frame = json.loads(message.data)
                if "type" in frame:
                    yield frame
                elif frame.get("accept"):
                    since = {group: list(positions)[-100:] for group, positions in seen.items()}
                    await ws.send_json({"groups": groups, "xrftoken": token, "since": since})
                elif "error" in frame or "close" in frame:
                    raise PermissionError(frame.get("error", "not logged in"))

    async with aiohttp.ClientSession() as session:
        failures = 0
        while True:
            replays = {}  # group → the events that are still missing, those that came, and the frame "subscribed"
            try:
                async for frame in frames(session):
                    kind, group, position = frame["type"], frame.get("group"), frame.get("position")
                    if kind == "subscribed":
                        failures = 0
                        yield "subscribed", group, None
                        if group in seen and not frame.get("recovered"):
                            yield "gap", group, frame.get("reason", "no_history")
                        seen.setdefault(group, {})
                        replays[group] = [frame.get("events", 0), 0, frame]
                    elif kind == "event":
                        if is_fresh := fresh(group, position):
                            yield "event", group, frame.get("event", frame.get("text"))
                        if group in replays:
                            replays[group][0] -= 1
                            replays[group][1] += is_fresh
                    elif kind == "withheld" and fresh(group, position):
                        yield "gap", group, "withheld"
                    elif kind == "gap":
                        for name in frame.get("groups", list(seen)):
                            fresh(name, position)
                            yield "gap", name, frame["reason"]
                    if replays.get(group, [1])[0] == 0:  # the replay is complete: its position counts from here on
                        _, count, begun = replays.pop(group)
                        fresh(group, begun.get("position"))
                        if begun.get("recovered"):
                            yield "recovered", group, count
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                if getattr(error, "status", 0) in (401, 403):
                    raise
            await asyncio.sleep(random.random() * min(30, 0.5 * 2 ** min(failures, 6)))  # not all clients at once
            failures += 1


async def main(url, *names):
    groups = {}
    for kind, _, item in (name.partition("-") for name in names):
        groups.setdefault(kind, []).append(item)
    async for what, group, value in follow(url, os.environ.get("COOKIE", "csrftoken=any"), groups):
        print(what, group, json.dumps(value) if what == "event" else value or "", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
