"""Settings that channels_redis has had since 4.2, for a version before that (Debian 12 has 4.0).

CoreLayer and PubSubLayer are RedisChannelLayer and RedisPubSubChannelLayer with serializer_format, and the latter
with symmetric_encryption_keys. Where the installed version has them itself, they are its own classes.
"""

import base64
import hashlib
import json
import random

import msgpack
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from cryptography.fernet import Fernet, MultiFernet

try:
    import channels_redis.serializers  # noqa: F401
except ImportError:

    class Serializer:
        def __init__(self, format, keys, random_bytes, ttl):
            self.pack, self.unpack = {
                "msgpack": (msgpack.packb, msgpack.unpackb),
                "json": (lambda message: json.dumps(message).encode(), json.loads),
            }[format]
            self.random_bytes, self.ttl = random_bytes, ttl
            self.crypter = MultiFernet([self.fernet(key) for key in keys]) if keys else None

        @staticmethod
        def fernet(key):
            return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))

        def serialize(self, message):
            value = self.pack(message)
            if self.crypter:
                value = self.crypter.encrypt(value)
            return random.randbytes(self.random_bytes) + value

        def deserialize(self, value):
            value = value[self.random_bytes :]
            if self.crypter:
                value = self.crypter.decrypt(value, self.ttl)
            return self.unpack(value)

    class CoreLayer(RedisChannelLayer):
        def __init__(self, serializer_format="msgpack", symmetric_encryption_keys=None, **config):
            super().__init__(**config)
            self.serializer = Serializer(serializer_format, symmetric_encryption_keys, 12, self.expiry + 10)

        def serialize(self, message):
            return self.serializer.serialize(message)

        def deserialize(self, value):
            return self.serializer.deserialize(value)

    class PubSubLayer(RedisPubSubChannelLayer):
        def __init__(self, serializer_format="msgpack", symmetric_encryption_keys=None, **config):
            super().__init__(**config)
            self.serializer = Serializer(serializer_format, symmetric_encryption_keys, 0, None)

        def serialize(self, message):
            return self.serializer.serialize(message)

        def deserialize(self, value):
            return self.serializer.deserialize(value)

else:
    CoreLayer, PubSubLayer = RedisChannelLayer, RedisPubSubChannelLayer
