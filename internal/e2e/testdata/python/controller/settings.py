"""Settings of the controller: no database, sessions in files, one Redis.

Environment: CONTROLLER_REDIS (URL), CONTROLLER_STATE (a directory for sessions),
CONTROLLER_CAPACITY (messages a channel key may hold; 10000 as in AWX).
"""

import os

SECRET_KEY = "only for tests on the loopback interface"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True

INSTALLED_APPS = ["channels"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "controller.hits.count_hits",
]
ROOT_URLCONF = "controller.urls"
ASGI_APPLICATION = "controller.asgi.application"
DATABASES = {}

# Files and not memory: a login outlives a restart of Daphne, and a logout
# takes it away on the server's side too.
SESSION_ENGINE = "django.contrib.sessions.backends.file"
SESSION_FILE_PATH = os.environ["CONTROLLER_STATE"]
SESSION_COOKIE_NAME = "awx_sessionid"
CSRF_COOKIE_NAME = "csrftoken"

BROADCAST_WEBSOCKET_GROUP_NAME = "broadcast-group_send"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [os.environ["CONTROLLER_REDIS"]],
            "capacity": int(os.environ.get("CONTROLLER_CAPACITY", "10000")),
            "group_expiry": 157784760,
        },
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # A 404 is an answer here and not worth a line.
    "loggers": {"django.request": {"level": "ERROR"}},
}
