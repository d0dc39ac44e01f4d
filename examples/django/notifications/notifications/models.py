from django.conf import settings
from django.db import models


class Notification(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notifications")
    text = models.CharField(max_length=200)
    read = models.BooleanField(default=False)


def unread(user):
    return Notification.objects.filter(user=user, read=False).count()
