"""Messages of any type, as Python encodes them.

With "emit <n>", it writes n lines of a JSON list: the message in msgpack (base64), the message in JSON in some
form (base64), and json.dumps of the message, without the members that belong to the channel layer.
With "read", it reads lines of base64, messages in msgpack, and writes for each one repr of the message.
"""

import base64
import json
import random
import struct
import sys

import msgpack

LAYERS = ("__asgi_channel__", "edgerelay_sender")


def plain(value):
    """The value with base64 in place of bytes."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def text(rnd):
    alphabet = "ab \"\\/\n\r\t\b\f\x00\x1f\x7f<>&'äß\u2028\ufeff\uffff\U0001f600\U0010ffff{}[]:,0"
    return "".join(rnd.choice(alphabet) for _ in range(rnd.randrange(rnd.choice((3, 12, 12, 100)))))


def number(rnd):
    return rnd.choice((
        lambda: rnd.randrange(-40, 200),
        lambda: rnd.choice((1, -1)) * 2 ** rnd.randrange(0, 63) + rnd.randrange(-1, 2),
        lambda: 2**64 - rnd.randrange(1, 100),
        lambda: -(2**63),
        lambda: rnd.uniform(-1e3, 1e3),
        lambda: float(rnd.randrange(-(10**6), 10**6)),
        lambda: rnd.choice((1, -1)) * 10.0 ** rnd.randrange(-30, 40) * rnd.choice((1, 3, 1.5, 9.999999999999999)),
        lambda: struct.unpack("d", struct.pack("Q", rnd.getrandbits(64)))[0],
        lambda: rnd.choice((0.0, -0.0, 5e-324, 1e16, 9999999999999998.0, 1e-4, 9.99e-5, 1.7976931348623157e308,
                            float("inf"), float("-inf"), float("nan"))),
    ))()


def value(rnd, depth, with_bytes):
    kind = rnd.randrange(10 if depth else 7)
    if kind < 2:
        return text(rnd)
    if kind < 4:
        return number(rnd)
    if kind == 4:
        return rnd.choice((True, False, None))
    if kind == 5:
        return rnd.randbytes(rnd.randrange(30)) if with_bytes else text(rnd)
    if kind == 6:
        return rnd.choice(([], {}, "", 0))
    if kind == 7:
        return [value(rnd, depth - 1, with_bytes) for _ in range(rnd.randrange(rnd.choice((2, 4))))]
    keys = (text, text, text) if rnd.randrange(4) else (number, lambda r: r.choice((True, False, None)), text)
    return {rnd.choice(keys)(rnd): value(rnd, depth - 1, with_bytes) for _ in range(rnd.randrange(rnd.choice((3, 4)) if depth < 4 or rnd.randrange(20) else 45))}


def message(rnd, with_bytes):
    members = [("type", rnd.choice(("chat.message", "order_changed", "ü.x", "a" * 200)))]
    for name in ("text", "groups", "needs_relay", "origin_channel", "edgerelay_sender", "bytes_data"):
        if rnd.randrange(4) == 0:
            members.append((name, value(rnd, 2, with_bytes)))
    members += [(text(rnd), value(rnd, rnd.choice((1, 4)), with_bytes)) for _ in range(rnd.randrange(8))]
    members.append(("__asgi_channel__", rnd.choice((["specific.a!1", "specific.a!2"], ["specific.a!1"]))))
    if rnd.randrange(2):
        rnd.shuffle(members)
    return dict(members)


def emit(count):
    rnd = random.Random(17)
    for i in range(count):
        with_bytes = i % 2 == 0
        m = message(rnd, with_bytes)
        loaded = plain(m)
        form = rnd.choice(({}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}))
        if not with_bytes:
            loaded = json.loads(json.dumps(m))
        encoded = json.dumps(loaded, **form).encode()
        packed = msgpack.packb(m)
        wants = []
        for want in (plain(m), json.loads(encoded)):
            wants.append(json.dumps({k: v for k, v in want.items() if k not in LAYERS}))
        print(json.dumps([base64.b64encode(packed).decode(), base64.b64encode(encoded).decode(), *wants]))


def read():
    for line in sys.stdin:
        print(ascii(msgpack.unpackb(base64.b64decode(line), strict_map_key=True)))


if sys.argv[1] == "emit":
    emit(int(sys.argv[2]))
else:
    read()
