"""The consumer that the Caddyfile replaces."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class TicketConsumer(AsyncJsonWebsocketConsumer):
    joined = ()

    async def connect(self):
        claims = self.scope["claims"]
        if claims is None:
            await self.close()
            return
        self.joined = [f"user_{claims['sub']}"] + [f"team_{team}" for team in claims["teams"]]
        for group in self.joined:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept("bearer" if "bearer" in self.scope["subprotocols"] else None)

    async def disconnect(self, code):
        for group in self.joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def ticket_updated(self, event):
        await self.send_json({"ticket": event["ticket"], "state": event["state"], "by": event["by"]})

    async def ticket_assigned(self, event):
        await self.send_json({"ticket": event["ticket"], "assigned": True})
