"""A group that only the staff may see."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class StaffConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        if not self.scope["user"].is_staff:
            await self.close(code=4003)
            return
        await self.channel_layer.group_add("staff", self.channel_name)
        await self.accept()

    async def audit_entry(self, event):
        await self.send_json({"who": event["who"], "what": event["what"]})
