"""A process that measures: opens a model, times steps, or writes a file in another number format.

Apart from the service and its engine, since a damaged file may end the process, and since what OpenMP's threads do
while they wait is set in the environment (`config.engine_environment`). Started by `worker/lab_client`.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.library import facts, open_model
from frontdesk.llamacpp.quantize import quantize
from frontdesk.llamacpp.trials import timed
from frontdesk.worker.link import Link, leave_stopping_to_the_service, throttled
from frontdesk.worker.protocol import LoadFailed, Open, Opened, Quantize, Quantized, Trial


def serve(link: Link) -> None:
    """Answer one message after the other until the service is gone."""
    model: Any = None
    while True:
        message = link.receive()
        if isinstance(message, Open):
            try:
                model = open_model(message.path, throttled(link))
            except ModelLoadFailed as error:
                link.send(LoadFailed(error.message))
            else:
                link.send(Opened(facts(model).description))
        elif isinstance(message, Trial):
            link.send(timed(model, message))
        elif isinstance(message, Quantize):
            q, progress = message, throttled(link)
            reason = quantize(q.source, q.target, q.ftype, q.threads, q.requantize, progress)
            link.send(Quantized(reason))


if __name__ == "__main__":
    leave_stopping_to_the_service()
    serve(Link(socket.socket(fileno=int(sys.argv[1]))))
