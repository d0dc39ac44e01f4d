"""Who exists and who may see what: the tables that the scenes are written against.

Keep them in step with the constants of internal/e2e/peers/controller.go.
"""

import base64
import binascii
from dataclasses import dataclass

SESSION_KEY = "user_id"


@dataclass(frozen=True)
class Person:
    id: int
    username: str
    is_superuser: bool = False

    @property
    def password(self):
        return self.username + "-password"


PEOPLE = {
    person.id: person
    for person in (
        Person(1, "admin", is_superuser=True),
        Person(2, "alice"),
        Person(3, "bob"),
    )
}

# kind of object -> id -> ids of those who may see it, superusers aside
OBJECTS = {
    "jobs": {1: {2, 3}, 42: {2}, 43: set(), 44: {2, 3}, 100: {2}},
    "workflow_jobs": {7: {2}, 8: set()},
    "ad_hoc_commands": {5: {2}, 6: set()},
    "project_updates": {3: {2}, 4: set()},
    "inventory_updates": {3: {2}, 4: set()},
    "system_jobs": {3: {2}, 4: set()},
}

# The groups whose ids are checked at a subscription, as AWX does.
RESTRICTED = {
    "job_events": "jobs",
    "workflow_events": "workflow_jobs",
    "ad_hoc_command_events": "ad_hoc_commands",
}


def exists(kind, number):
    return number in OBJECTS[kind]


def may_see(person, kind, number):
    """number may be anything that int() takes, as an ORM's primary-key lookup
    would; what it does not take raises as there."""
    viewers = OBJECTS[kind].get(int(number))
    return viewers is not None and (person.is_superuser or person.id in viewers)


def by_session(session):
    return PEOPLE.get(session.get(SESSION_KEY))


def by_password(username, password):
    for person in PEOPLE.values():
        if person.username == username and person.password == password:
            return person
    return None


def by_authorization(header):
    """The person of an HTTP Basic Authorization header, or None."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return by_password(username, password)
