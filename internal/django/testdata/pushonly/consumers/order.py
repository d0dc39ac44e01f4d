"""A group from the URL, and an object of some of the event's members."""

import json

from channels.generic.websocket import AsyncWebsocketConsumer


class OrderConsumer(AsyncWebsocketConsumer):
    async def connect(self):
        self.group_name = "order_%s" % self.scope["url_route"]["kwargs"]["order"]
        await self.channel_layer.group_add(self.group_name, self.channel_name)
        await self.accept()

    async def disconnect(self, close_code):
        await self.channel_layer.group_discard(self.group_name, self.channel_name)

    async def order_changed(self, event):
        await self.send(
            text_data=json.dumps({"id": event["id"], "state": event["state"], "total": event["total"]})
        )
