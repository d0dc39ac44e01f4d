"""Frames with names other than the event's, the type among them."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class PriceConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("price_" + self.scope["url_route"]["kwargs"]["symbol"], self.channel_name)
        await self.accept()

    async def price_changed(self, event):
        await self.send_json({"event": event["type"], "symbol": event["symbol"], "last": event["price"]})
