"""Several types, each with a frame of its own."""

import json

from channels.generic.websocket import AsyncWebsocketConsumer


class TaskConsumer(AsyncWebsocketConsumer):
    async def connect(self):
        self.task = self.scope["url_route"]["kwargs"]["task"]
        await self.channel_layer.group_add(f"task-{self.task}", self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(f"task-{self.task}", self.channel_name)

    async def task_started(self, event):
        await self.send(text_data="started")

    async def task_progress(self, event):
        await self.send(text_data=json.dumps({"percent": event["percent"], "step": event["step"]}))

    async def task_log(self, event):
        await self.send(text_data=event["line"])

    async def task_finished(self, event):
        await self.send(text_data=json.dumps(event["result"]))

    async def task_touched(self, event):
        pass  # for other consumers of the group
