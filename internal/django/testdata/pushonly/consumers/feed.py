"""The whole event as JSON, its type included, for everyone."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class FeedConsumer(AsyncJsonWebsocketConsumer):
    groups = ["feed"]

    async def feed_item(self, event):
        await self.send_json(event)
