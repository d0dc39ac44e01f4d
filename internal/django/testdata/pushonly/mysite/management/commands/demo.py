from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Creates alice, who is of the staff, and bob; a password is alice-password."

    def handle(self, **options):
        for name in ("alice", "bob"):
            get_user_model().objects.create_user(name, password=f"{name}-password", is_staff=name == "alice")
