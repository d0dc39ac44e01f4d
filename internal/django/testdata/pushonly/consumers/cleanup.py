"""A consumer whose disconnect leaves its groups."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class CleanupConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        document = self.scope["url_route"]["kwargs"]["document"]
        self.names = {f"document_{document}", f"comments_{document}"}
        for name in self.names:
            await self.channel_layer.group_add(name, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        for name in self.names:
            await self.channel_layer.group_discard(name, self.channel_name)
        self.names.clear()

    async def document_saved(self, event):
        await self.send_json({"revision": event["revision"]})

    async def document_comment(self, event):
        await self.send_json({"comment": event["text"]})
