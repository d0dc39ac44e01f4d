"""JSON Web Tokens: made at the login, checked for requests and for websockets."""

from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs

import jwt
from django.conf import settings


def create(user):
    claims = {
        "sub": str(user.pk),
        "name": user.username,
        "teams": sorted(user.groups.values_list("name", flat=True)),
        "exp": datetime.now(timezone.utc) + timedelta(hours=1),
    }
    return jwt.encode(claims, settings.JWT_KEY, algorithm="HS256")


def claims(token):
    """The claims of a valid token, otherwise None."""
    try:
        return jwt.decode(token, settings.JWT_KEY, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.InvalidTokenError:
        return None


class TokenMiddleware:
    """Puts the claims into the scope. A page sends the token in the query, as ?token=…, or as the second subprotocol
    after "bearer": a browser's WebSocket has no way to send a header."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        protocols = scope.get("subprotocols", [])
        token = parse_qs(scope["query_string"].decode()).get("token", [""])[0]
        if len(protocols) == 2 and protocols[0] == "bearer":
            token = protocols[1]
        return await self.app(dict(scope, claims=claims(token)), receive, send)
