"""Frames with constants beside the event's members, before and after them."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class KindsConsumer(AsyncJsonWebsocketConsumer):
    groups = ["kinds"]

    async def kinds_order(self, event):
        await self.send_json({"kind": "order", "version": 2, "order": event["order"]})

    async def kinds_toast(self, event):
        await self.send_json({"kind": "toast", "title": event["title"], "level": "info", "sticky": False})

    async def kinds_reload(self, event):
        await self.send_json({"kind": "reload"})
