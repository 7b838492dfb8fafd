"""A server that lives as long as one `frontdesk chat`: the same server as `frontdesk serve`, on a free port.

It runs in a thread, so it cannot outlive the program: no orphan keeps a model in memory. It forgets everything at its
end unless a database is named: the default one may belong to a `frontdesk serve` that runs beside it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator

from rich.status import Status

from frontdesk.cli import options
from frontdesk.config import Settings
from frontdesk.errors import FrontdeskError


@contextlib.contextmanager
def own_server(settings: Settings) -> Iterator[str]:
    """Its URL, once the model is loaded. Leaves with one line and exit code 2 when it cannot be."""
    from frontdesk.server.app import build_app
    from frontdesk.server.lifetime import Watch
    from frontdesk.server.serve import bind, make_server, url_of
    from frontdesk.telemetry.logs import set_up

    set_up("error", settings.log_format)
    # Never on the network: it needs no key, and who comes under another name or through a proxy is refused.
    here = {"database": settings.database or "memory", "host": "127.0.0.1", "auth": "auto"}
    settings = settings.model_copy(update=here)
    outcome: queue.Queue[FrontdeskError | None] = queue.Queue()
    watch = Watch(ready=lambda _: outcome.put(None), failed=outcome.put)
    try:
        server = make_server(settings, build_app(settings, watch=watch))
        socket = bind("127.0.0.1", 0)
    except FrontdeskError as error:
        options.fail(error.message)

    def run() -> None:
        try:
            server.run(sockets=[socket])
        finally:  # whoever has heard that it is ready listens no more
            outcome.put(FrontdeskError("the server ended before it was ready; its log lines tell why"))

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        with Status("loading the model …", console=options.notes):
            failure = outcome.get()
        if failure:
            options.fail(failure.message)
        yield url_of(socket)
    finally:
        server.should_exit = True
        thread.join()
        socket.close()
