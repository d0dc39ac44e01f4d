from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Creates alice, of the teams billing and support, and bob, of support; a password is alice-password."

    def handle(self, **options):
        for name, teams in {"alice": ("billing", "support"), "bob": ("support",)}.items():
            user, created = User.objects.get_or_create(username=name)
            user.set_password(f"{name}-password")
            user.save()
            user.groups.set(Group.objects.get_or_create(name=team)[0] for team in teams)
            self.stdout.write(f"user {name}, password {name}-password, teams {' and '.join(teams)}")
