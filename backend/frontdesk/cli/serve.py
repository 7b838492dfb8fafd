"""`frontdesk serve`: settings in, a running server out, and the lines that say what is happening.

Knows the terminal; the server itself is `server/serve`, and the settings are `config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frontdesk.cli import options
from frontdesk.cli.startup import StartUp
from frontdesk.config import Settings, load, unknown_variables
from frontdesk.errors import FrontdeskError


def serve(
    model: options.Model = None,
    host: options.Host = None,
    port: options.Port = None,
    ctx: options.Ctx = None,
    kv_tokens: options.KvTokens = None,
    kv_type: options.KvType = None,
    tune: options.Tune = None,
    slots: options.Slots = None,
    threads: options.Threads = None,
    chunk: options.Chunk = None,
    chunk_busy: options.ChunkBusy = None,
    parked_mib: options.ParkedMib = None,
    persona: options.Persona = None,
    origins: options.Origins = None,
    database: options.Database = None,
    auth: options.Auth = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
    config: options.ConfigFile = None,
) -> None:
    """Serve a model over HTTP and WebSockets until Ctrl-C.

    Ctrl-C once: no new requests, running replies finish (`drain_seconds`). Twice: stop at once.
    Settings without a flag, such as timeouts, are read from FRONTDESK_* variables and the settings file.
    """
    arguments = {name: value for name, value in locals().items() if name != "config"}
    settings = load_settings(config, arguments)
    # Imported late: `--help` and a wrong flag are answered in a tenth of the time.
    from frontdesk.server.lifetime import Watch
    from frontdesk.server.serve import serve as run
    from frontdesk.telemetry.logs import set_up

    set_up(settings.log_level, settings.log_format)
    with StartUp() as screen:
        try:
            run(settings, Watch(tuning=screen.tuning, progress=screen.progress, ready=screen.ready), screen.bound)
        except FrontdeskError as error:
            options.fail(error.message)
    screen.say("stopped")


def load_settings(file: str | None, arguments: dict[str, Any]) -> Settings:
    """Settings, or one clear line and exit code 2."""
    for name in unknown_variables():
        options.notes.print(f"frontdesk: {name} in the environment names no setting; it is ignored", style="yellow")
    try:
        return load(Path(file) if file else None, arguments)
    except FrontdeskError as error:
        options.fail(error.message)
