"""Receives events with aiohttp, and reports their digest: aiohttp_client.py <url>."""

import asyncio
import hashlib
import json
import sys

import aiohttp


async def main(url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15, max_msg_size=0) as socket:
        digest = hashlib.sha256()
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise SystemExit(f"unexpected message: {message}")
            if message.data == "end":
                await socket.send_str(json.dumps({"Digest": digest.hexdigest(), "Pad": "pad " * 1024}))
                await socket.receive()
                return
            digest.update(message.data.encode() + b"\n")


asyncio.run(main(sys.argv[1]))
