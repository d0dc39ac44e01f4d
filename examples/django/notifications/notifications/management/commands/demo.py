from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Creates the users alice and bob; their passwords are alice-password and bob-password."

    def handle(self, **options):
        users = get_user_model().objects
        for name in ("alice", "bob"):
            if not users.filter(username=name).exists():
                users.create_user(name, password=f"{name}-password")
            self.stdout.write(f"user {name}, password {name}-password")
