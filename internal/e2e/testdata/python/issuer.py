"""A small site that issues tokens with PyJWT, publishes its key set, and answers auth http.

GET /token/<algorithm>?sub=..&kid=.. signs a token, GET /keys is the key set, POST /rotate makes new keys, GET /auth/
answers about the cookie sessionid, and POST /logout/<session> ends a session.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

keys = {}
ended = set()


def rotate(generation):
    keys.clear()
    for name, private, algorithm in (
        ("rsa", rsa.generate_private_key(65537, 2048), RSAAlgorithm),
        ("ec", ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
        ("ed", ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
    ):
        public = json.loads(algorithm.to_jwk(private.public_key()))
        public.update(kid=f"{name}-{generation}", use="sig")
        public.pop("key_ops", None)
        keys[name] = private, public


class Site(BaseHTTPRequestHandler):
    generation = 0

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/keys":
            return self.answer(200, {"keys": [public for _, public in keys.values()]})
        if url.path.startswith("/token/"):
            algorithm = url.path[7:]
            name = {"R": "rsa", "P": "rsa", "ES": "ec", "Ed": "ed"}.get(algorithm[:2]) or {"R": "rsa", "P": "rsa"}[algorithm[0]]
            private, public = keys[name]
            claims = {"sub": query["sub"], "exp": time.time() + 600, "iat": time.time(), "groups": ["news-*"]}
            return self.answer(200, {"token": jwt.encode(claims, private, algorithm, {"kid": public["kid"]})})
        if url.path == "/auth/":
            cookies = dict(c.strip().split("=", 1) for c in self.headers.get("Cookie", "").split(";") if "=" in c)
            user = cookies.get("sessionid", "")
            if not user or user in ended:
                return self.answer(401, {})
            groups = [f"user-{user}"]
            if query.get("group", "").startswith(f"orders-{user}"):
                groups.append(query["group"])
            return self.answer(200, {"user": user, "groups": groups})
        self.answer(404, {})

    def do_POST(self):
        if self.path == "/rotate":
            Site.generation += 1
            rotate(Site.generation)
        elif self.path.startswith("/logout/"):
            ended.add(self.path[8:])
        self.answer(200, {})

    def log_message(self, *_):
        pass


rotate(0)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Site).serve_forever()
