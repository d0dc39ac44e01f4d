"""Several groups: of the user, of the path, and of everyone."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class DashboardConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        user = self.scope["user"]
        if not user.is_authenticated:
            return await self.close()
        self.names = [f"alerts_{user.pk}", "site_" + self.scope["url_route"]["kwargs"]["site"], "announcements"]
        for name in self.names:
            await self.channel_layer.group_add(name, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        for name in getattr(self, "names", []):
            await self.channel_layer.group_discard(name, self.channel_name)

    async def dashboard_update(self, event):
        await self.send_json({"widget": event["widget"], "value": event["value"]})
