"""The emitters: they are the same with Daphne and with the relay."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from .models import Notification, unread


def send(user_id, message):
    async_to_sync(get_channel_layer().group_send)(f"notifications_{user_id}", message)


@receiver(post_save, sender=Notification)
def created(sender, instance, created, **kwargs):
    if created:
        transaction.on_commit(lambda: send_created(instance))


def send_created(notification):
    send(
        notification.user_id,
        {
            "type": "notification.created",
            "id": notification.pk,
            "text": notification.text,
            "unread": unread(notification.user_id),
        },
    )


def send_read(user):
    send(user.pk, {"type": "notification.read", "unread": unread(user)})
