"""The header with which nodes prove to each other that they know the cluster's secret."""

import hashlib
import hmac
import json
import os
import time

SECRET = os.environ.get("CLUSTER_SECRET", "")


def signature(nonce):
    text = json.dumps({"secret": SECRET, "nonce": nonce})
    return hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()


def header():
    nonce = str(int(time.time()))
    return f"HMAC-SHA256 {nonce}:{signature(nonce)}"


def sound(value):
    algorithm, _, rest = value.partition(" ")
    nonce, _, given = rest.partition(":")
    return (
        algorithm == "HMAC-SHA256"
        and nonce.isdigit()
        and hmac.compare_digest(given, signature(nonce))
        and abs(time.time() - int(nonce)) <= 300
    )
