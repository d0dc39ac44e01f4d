"""A group of a part of the path and of a parameter of the query."""

import json
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer


class TickerConsumer(AsyncWebsocketConsumer):
    async def connect(self):
        market = self.scope["url_route"]["kwargs"]["market"]
        symbol = parse_qs(self.scope["query_string"].decode())["symbol"][0]
        self.group = f"ticker_{market}_{symbol}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def tick(self, event):
        await self.send(text_data=json.dumps({"bid": event["bid"], "ask": event["ask"]}))
