"""A server of S3 on this machine, which fails as it is told; prints its address.

POST /fail with JSON: a `share` of requests fails with 503, of those of `method` and with `key` in
their path only; `slow` is how many seconds every answer takes longer. Nothing told, nothing fails.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

application = DomainDispatcherApplication(create_backend_app)
how: dict[str, Any] = {}
draw = random.Random(0)


def answer(environ: dict[str, Any], start_response: Any) -> Any:
    """As of WSGI."""
    global how
    path = environ["PATH_INFO"]
    if path == "/fail":
        length = int(environ["CONTENT_LENGTH"] or 0)
        how = json.loads(environ["wsgi.input"].read(length))
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    meant = how.get("method", environ["REQUEST_METHOD"]) == environ["REQUEST_METHOD"]
    if how and meant and how.get("key", "") in path:
        time.sleep(how.get("slow", 0))
        if draw.random() < how["share"]:
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
    return application(environ, start_response)


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, answer, threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()
