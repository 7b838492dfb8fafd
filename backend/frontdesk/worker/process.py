"""The engine's process: reads requests, steps the engine, sends one message a step. Started by `worker/client`.

It may die at any instruction; what it saves when it is told to stop only spares work. A thread reads the socket, so
that an abort can interrupt a long prefill and the parent's death ends this process at once. Knows no text; its only
clock is for its statistics.
"""

from __future__ import annotations

import gc
import os
import queue
import socket
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import NoReturn

from frontdesk.engine.batch import Batch
from frontdesk.engine.core import Engine, Interrupted
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.parked import ParkedPrefixes
from frontdesk.engine.request import SequenceOutput
from frontdesk.engine.scheduler import Scheduler, most_rows
from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.library import BUILD, CELL_PADDING, MAX_SEQUENCES, ContextPlan, facts, open_model
from frontdesk.llamacpp.runner import LlamaRunner
from frontdesk.worker.link import Link, leave_stopping_to_the_service, throttled
from frontdesk.worker.protocol import Abort, Load, LoadFailed, Ready, Stepped, StepStats, Stop, Submit
from frontdesk.worker.shelf import Shelf, Stored

IDLE_PREFIXES = 32  # sequence ids beyond the running ones that may keep a prefix, where cells are shared
LOOKING_SECONDS = 0.25  # that a loaded engine waits for the list of what a former one has left


class Worker:
    """One loaded model and its loop."""

    def __init__(self, link: Link, load: Load) -> None:
        begun = perf_counter()
        self._link = link
        self._inbox: queue.SimpleQueue[Submit | Abort | Stop | Stored] = queue.SimpleQueue()
        unified = load.unified
        most = MAX_SEQUENCES - load.pad_rows  # one is needed to fill up steps
        sequences = min(most, load.slots + IDLE_PREFIXES) if unified else load.slots
        slots = min(load.slots, sequences)
        per_stream = -(-load.window // CELL_PADDING) * CELL_PADDING
        cells = load.kv_cells if unified else per_stream * load.slots
        rows = most_rows(slots, load.chunk, load.chunk_busy)
        layout = ("unified", 0) if unified else ("streams", sequences, per_stream)
        conditions = (BUILD, load.kv_type, load.exact, load.flash, layout)
        self._shelf = Shelf(Path(load.shelf), load.shelf_bytes, Path(load.path), conditions) if load.shelf else None
        looking = threading.Thread(target=self._look_up, daemon=True)
        looking.start()  # beside the loading of the model, which takes longer
        model = open_model(load.path, throttled(link))
        plan = ContextPlan(
            cells, sequences, rows, load.threads, load.threads_least, load.kv_type, unified, load.exact, load.pad_rows,
            load.flash, load.steps,
        )  # fmt: skip
        self._runner = LlamaRunner(model, plan)
        whole = not self._runner.slides  # can all of a sequence's KV be saved and put back?
        self._shelf = self._shelf if whole else None
        parked = ParkedPrefixes(load.parked_bytes, *self._runner.state_bytes()) if whole and load.parked_bytes else None
        self._cache = KVCache(
            sequences, cells, unified=unified, swaps=whole, parked=parked, loadable=self._runner.loadable
        )
        costs = self._runner.costs if load.speculate else None
        scheduler = Scheduler(self._cache, slots=slots, chunk=load.chunk, chunk_busy=load.chunk_busy, costs=costs)
        self._engine = Engine(scheduler, self._runner, load.window)
        known = facts(model)
        looking.join(LOOKING_SECONDS)
        self._ready = Ready(
            window=load.window,
            kv_cells=cells,
            slots=slots,
            threads=load.threads,
            n_vocab=known.n_vocab,
            n_ctx_train=known.n_ctx_train,
            load_seconds=perf_counter() - begun,
            description=known.description,
        )

    def run(self) -> None:
        """Serve until the service is gone, or says stop."""
        gc.freeze()  # what was imported stays; looking through it again and again would stop every reply meanwhile
        self._link.send(self._ready)
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            over = self._take_messages()
            begun = perf_counter()
            try:
                batch, outputs = self._engine.step()
            except Interrupted:
                batch, outputs = Batch(), []
            if batch.chunks or batch.preempted or over:
                stats = self._stats(batch, perf_counter() - begun)
                self._link.send(Stepped((*over, *outputs), stats))

    def _read(self) -> None:
        while True:
            try:
                message = self._link.receive()
            except ValueError as error:  # without its ears this process could not even be told to stop
                print(f"engine: unreadable message: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            if isinstance(message, Submit | Abort | Stop):
                self._inbox.put(message)
            if isinstance(message, Stop) or (isinstance(message, Abort) and message.id in self._runner.prefilling):
                self._runner.interrupt = True

    def _look_up(self) -> None:
        """See what a former engine has left. Runs beside the rest; what it finds late is late, no more."""
        if shelf := self._shelf:
            for stored in shelf.stored():
                self._inbox.put(stored)

    def _take_messages(self) -> list[SequenceOutput]:
        """Enter what has arrived; waits when there is nothing else to do. Returns replies that were over at once."""
        over = []
        while not self._inbox.empty() or not self._engine.busy:
            message = self._inbox.get()
            if isinstance(message, Stop):
                self._leave()
            elif isinstance(message, Stored):
                self._adopt(message)
            elif isinstance(message, Abort):
                self._engine.abort(message.id)
                if not self._engine.busy:  # no step will tell it
                    self._link.send(Stepped((), self._stats(Batch(), 0.0)))
            elif output := self._engine.submit(message):
                over.append(output)
                break
        return over

    def _adopt(self, stored: Stored) -> None:
        """Count on a state of a former engine, if nothing here says as much and states can be put back."""
        if self._shelf and (handle := self._cache.adopt(stored.tenant, stored.public, stored.tokens)):
            self._runner.adopt(handle, stored)
        else:
            stored.remove()

    def _leave(self) -> NoReturn:
        """Put what is worth it on the shelf, last used first, and end."""
        if self._shelf:
            ops, self._cache.ops = self._cache.ops, []
            self._runner.execute(Batch(ops=ops))
            kept = ((p.tenant, p.public, p.tokens, self._runner.saved(p).data) for p in self._cache.kept())
            try:
                self._shelf.keep(kept)
            except OSError as error:
                print(f"engine: conversations could not be kept: {error}", file=sys.stderr, flush=True)
        os._exit(0)

    def _stats(self, batch: Batch, seconds: float) -> StepStats:
        decode = sum(1 for chunk in batch.chunks if chunk.decodes)
        drafted = sum(chunk.drafts for chunk in batch.chunks)
        return StepStats(
            running=len(self._engine.scheduler.running),
            waiting=len(self._engine.scheduler.waiting),
            kv_used=self._cache.used_cells,
            kv_cells=self._cache.cells,
            prompt_tokens=batch.rows - decode - drafted,
            decode_tokens=decode + batch.accepted,
            preempted=batch.preempted,
            step_seconds=seconds,
            decode_seconds=self._runner.decode_seconds,
            parked=len(self._cache.parked),
            parked_bytes=self._cache.parked.used,
            drafted=drafted,
            accepted=batch.accepted,
        )


def main(fd: int) -> None:
    """Serve the socket with this file descriptor."""
    leave_stopping_to_the_service()
    link = Link(socket.socket(fileno=fd))
    load = link.receive()
    if not isinstance(load, Load):
        sys.exit(f"expected Load, got {type(load).__name__}")
    try:
        worker = Worker(link, load)
    except ModelLoadFailed as error:
        link.send(LoadFailed(error.message))
        return
    worker.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
