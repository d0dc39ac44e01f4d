"""A group that the page names in its first message."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class RoomConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.rooms = set()
        await self.accept()

    async def receive_json(self, content):
        if "subscribe" in content:
            name = "room_%s" % content["subscribe"]
            self.rooms.add(name)
            await self.channel_layer.group_add(name, self.channel_name)
        elif "unsubscribe" in content:
            name = "room_%s" % content["unsubscribe"]
            self.rooms.discard(name)
            await self.channel_layer.group_discard(name, self.channel_name)

    async def disconnect(self, code):
        for name in self.rooms:
            await self.channel_layer.group_discard(name, self.channel_name)

    async def room_news(self, event):
        await self.send_json({"room": event["room"], "news": event["news"]})
