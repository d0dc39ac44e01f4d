"""Bytes as binary frames."""

from channels.generic.websocket import AsyncWebsocketConsumer


class CameraConsumer(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("camera." + self.scope["url_route"]["kwargs"]["camera"], self.channel_name)
        await self.accept()

    async def camera_frame(self, event):
        await self.send(bytes_data=event["jpeg"])

    async def camera_state(self, event):
        await self.send(text_data=event["state"])
