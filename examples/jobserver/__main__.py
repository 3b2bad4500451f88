"""`python -m jobserver`, in this folder's parent: serves until Ctrl-C."""

import contextlib
import threading

from jobserver import JobServer

with JobServer() as server:
    print(f"POST a JSON list of TOML documents to http://127.0.0.1:{server.port}/toml")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
