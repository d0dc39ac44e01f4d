"""The websocket side: section 1 of the wire contract, on Channels' own consumer."""

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings

from . import people

DENIED = {"error": "access denied to channel"}


class EventConsumer(AsyncJsonWebsocketConsumer):
    """One browser. `subscribed` is what it asked for last; `token` is the CSRF
    cookie it came with."""

    async def connect(self):
        self.subscribed = set()
        self.token = self.scope["cookies"].get(settings.CSRF_COOKIE_NAME)
        self.person = await sync_to_async(people.by_session)(self.scope["session"])
        await self.accept()
        if self.person is None:
            await self.send_json({"close": True})
            await self.close()
            return
        await self.send_json({"accept": True, "user": self.person.id})

    async def disconnect(self, code):
        for group in self.subscribed:
            await self.channel_layer.group_discard(group, self.channel_name)
        await self.tell_peers("consumer.unsubscribe", self.subscribed)

    async def receive_json(self, message):
        given = message.get("xrftoken")
        if not given or given != self.token:
            await self.send_json(DENIED)
            return
        if "groups" not in message:
            return
        wanted = await self.permitted(message["groups"])
        if wanted is None:
            await self.send_json(DENIED)
            return
        await self.replace_subscriptions(wanted)

    async def permitted(self, groups):
        """The full names of the groups asked for, less those that the person may
        not see (each is answered with an error); None if a value is not a list."""
        wanted = set()
        for kind, items in groups.items():
            if not isinstance(items, list):
                return None
            for item in items:
                restricted = people.RESTRICTED.get(kind)
                if restricted and not people.may_see(self.person, restricted, item):
                    text = f"access denied to channel {kind} for resource id {item}"
                    await self.send_json({"error": text})
                else:
                    wanted.add(f"{kind}-{item}")
        return wanted

    async def replace_subscriptions(self, wanted):
        left, joined = self.subscribed - wanted, wanted - self.subscribed
        for group in left:
            await self.channel_layer.group_discard(group, self.channel_name)
        if left:
            await self.tell_peers("consumer.unsubscribe", left)
        for group in joined:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.tell_peers("consumer.subscribe", wanted)
        self.subscribed = wanted
        await self.send_json(
            {
                "groups_current": list(wanted),
                "groups_left": list(left),
                "groups_joined": list(joined),
            }
        )

    async def tell_peers(self, kind, groups):
        await self.channel_layer.group_send(
            settings.BROADCAST_WEBSOCKET_GROUP_NAME,
            {"type": kind, "groups": list(groups), "origin_channel": self.channel_name},
        )

    async def internal_message(self, event):
        await self.send(event["text"])
