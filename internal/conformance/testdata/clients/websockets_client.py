"""Receives events with websockets, and reports their digest: websockets_client.py <url>.

The end of the URL chooses the offer: window-<bits>, no-takeover, or the library's own.
"""

import asyncio
import hashlib
import json
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


def offers(url):
    if "window-" in url:
        return [ClientPerMessageDeflateFactory(server_max_window_bits=int(url.rpartition("-")[2]))]
    if url.endswith("no-takeover"):
        return [ClientPerMessageDeflateFactory(server_no_context_takeover=True)]
    return None


async def main(url):
    extensions = offers(url)
    compression = None if extensions else "deflate"
    async with websockets.connect(url, max_size=None, extensions=extensions, compression=compression) as socket:
        digest = hashlib.sha256()
        async for text in socket:
            if text == "end":
                await socket.send(json.dumps({"Digest": digest.hexdigest(), "Pad": "pad " * 1024}))
                await socket.wait_closed()
                return
            digest.update(text.encode() + b"\n")


asyncio.run(main(sys.argv[1]))
