"""Every setting, with its default and its limits. The only reader of the environment and of settings files.

Order, first wins: arguments (the command line), `FRONTDESK_*` in the environment, the TOML file, the defaults here.
`load` is called by `cli/` alone; every other module is handed a `Settings`. Knows the folders of `prompts/` and
`weights/`, but not what lies in them, and nothing of the machine: see `worker/machine`.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from frontdesk.errors import ConfigError
from frontdesk.principal import Limits

PREFIX = "FRONTDESK_"
FILE_VARIABLE = "FRONTDESK_CONFIG"
FILE_NAME = "frontdesk.toml"
DEFAULT_WINDOW = 8192  # tokens; what a model with a longer context is opened with when nobody asks for more
SHARED_CONVERSATIONS = 4  # full windows that the KV cache holds by default; most conversations are far from full
TRUTHS = ("exact", "speculate", "pad_rows")  # settings that are true or false
MIB = 2**20
SMALL = 32 * MIB  # bytes; on smaller weights one thread may be faster than several, and starting is quicker than tuning
SPIN = 10_000
PARKED_MIB = 1024  # most memory that parked conversations take by default


class Settings(BaseSettings):
    """All settings of one server. Frozen: a running server never changes its mind."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    model: str | None = Field(
        default=None,
        min_length=1,
        description="Name of a model in weights/manifest.toml, or path of a .gguf file. Unset: the manifest's default.",
    )
    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on. 0.0.0.0 is every interface."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port. 0 takes a free one and prints it.")
    ctx: int | None = Field(
        default=None,
        ge=64,
        le=4_194_304,
        description="Tokens that one conversation may hold, prompt and answer together. "
        f"Unset: the model's own context, but at most {DEFAULT_WINDOW}; less where memory is short.",
    )
    kv_tokens: int | None = Field(
        default=None,
        ge=64,
        le=67_108_864,
        description=f"Tokens of all conversations in the KV cache. Unset: {SHARED_CONVERSATIONS} full ones, or "
        "one a slot where `exact`, `kv_layout` or a sliding window gives each its own; less where memory is short.",
    )
    slots: int = Field(
        default=16, ge=1, le=256, description="Replies that are computed at the same time; more wait in line."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Compute threads. Unset: every core that the cgroup's quota and the CPU affinity allow; "
        "a model of less than 32 MB takes one of them where that is faster.",
    )
    tune: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: settings without a value are those that `frontdesk tune` found best for this model on this "
        f"machine. At the first start with a model of more than {SMALL // MIB} MiB that is measured, which takes about "
        "20 seconds and is remembered. off: nothing is measured or remembered.",
    )
    chunk: int | None = Field(
        default=None,
        ge=16,
        le=8192,
        description="Prompt tokens computed in one step while no reply streams. Unset: as measured, else 512.",
    )
    chunk_busy: int | None = Field(
        default=None,
        ge=1,
        le=8192,
        description="Prompt tokens computed in one step beside streaming replies: smaller keeps streams smoother, "
        "larger brings first tokens sooner. Unset: as measured, else 128.",
    )
    kv_type: Literal["f16", "f32", "q8_0"] | None = Field(
        default=None,
        description="Number format of the KV cache. q8_0 halves its memory; with `flash = off` it is refused. "
        "Unset: as measured, else f16.",
    )
    kv_layout: Literal["streams", "unified"] | None = Field(
        default=None,
        description="streams: every slot has a KV cache of its own, which is faster with long conversations and needs "
        "memory for every slot; unified: all share one, as where memory is short. Unset: as measured, else unified "
        "unless `kv_tokens` holds every slot's conversation. `exact` models and sliding windows have streams.",
    )
    flash: Literal["auto", "on", "off"] | None = Field(
        default=None, description="Flash attention. auto: as llama.cpp chooses. Unset: as measured, else auto."
    )
    spin: int | None = Field(
        default=None,
        ge=0,
        le=2**31,
        description="Turns that a compute thread waits for the others before it sleeps (GOMP_SPINCOUNT; that variable "
        "wins). Unset: as measured, else 10000.",
    )
    parked_mib: int | None = Field(
        default=None,
        ge=0,
        le=67_108_864,
        description="Memory, in MiB, for the KV state of conversations that had to leave the KV cache: whoever comes "
        "back is not computed again. 0: none is kept. "
        f"Unset: a tenth of the free memory that the model's weights leave, at most {PARKED_MIB} MiB.",
    )
    parked_folder: str | None = Field(
        default=None,
        min_length=1,
        description="Folder for the KV state of conversations while the server is down: whoever comes back after a "
        "restart is not computed again. It can be deleted at any time. Its files hold what was said, and what is "
        "deleted from the database stays in them until newer ones take their place. Unset: nowhere.",
    )
    parked_disk_mib: int = Field(
        default=1024, ge=0, le=67_108_864, description="Most that `parked_folder` may hold, in MiB. 0: nothing is kept."
    )
    speculate: bool | None = Field(
        default=None,
        description="Tokens that a reply seems to quote are computed along with the one that is due, where it has "
        "proved to pay on this machine. The text is the same. Unset: as measured, else false.",
    )
    pad_rows: bool | None = Field(
        default=None,
        description="Steps that leave a group of rows unfilled are filled up: behind prompts always, to a multiple of "
        "4, and beside replies where the clock says that it is faster, to one of 4 or 16. The text is the same. Unset: "
        "as measured, else false.",
    )
    exact: bool | None = Field(
        default=None,
        description="Greedy text is the same bit for bit whatever else is computed beside it: one KV stream for each "
        "slot, and kernels that do not depend on the batch. Needs memory for every slot. Unset: as the model's entry "
        "in the manifest says, else false.",
    )
    max_waiting: int = Field(default=512, ge=1, le=100_000,
        description="Requests that may be open, running and waiting; one more gets 429. A visitor may hold an eighth.",
    )  # fmt: skip
    max_body_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        le=1_073_741_824,
        description="Largest request body, in bytes. Raise it for contexts over 100,000 tokens.",
    )
    max_connections: int = Field(
        default=1024, ge=1, le=1_000_000, description="Connections open at once. One more gets 503."
    )
    ping_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="Seconds between a stream's keep-alives. Our pages give up a line after 20 s without one.",
    )
    send_timeout: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="Seconds that a reader may leave its socket full before it is dropped.",
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds that running replies get to finish when the server is told to stop.",
    )
    header_timeout: float = Field(
        default=10.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="Seconds that a client has to send its request head.",
    )
    body_timeout: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="Seconds that a client has to send its request body.",
    )
    origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of web pages that may call this server, such as https://shop.example; '*': any. With auth "
        "off on a loopback address also the proxy's. Widgets' come on top. A list in TOML, else separated by commas.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of proxies in front of this server, such as 127.0.0.1 or 10.0.0.0/8: what "
        "they say in X-Forwarded-For is where a request comes from. A list in TOML, separated by commas elsewhere.",
    )
    persona: str | None = Field(
        default=None,
        min_length=1,
        description="Persona (the `name` of a file in prompts/) of requests without a system message. "
        "Unset: the model's own. 'none': none.",
    )
    database: str | None = Field(
        default=None,
        min_length=1,
        description="Where conversations are kept: path of an SQLite file, a postgresql:// URL, or 'memory' to forget "
        "everything at the end. Unset: frontdesk.db in the user's state folder.",
    )
    auth: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether every request needs a key or a visitor's token. auto: on unless the server listens on a "
        "loopback address. Keys are honoured even when off, so that their budgets count.",
    )
    answer_reserve: int = Field(
        default=512,
        ge=1,
        le=1_048_576,
        description="Tokens of the window that a conversation's history leaves free for the answer, when the request "
        "does not say how long the answer may be. At most a quarter of the window.",
    )
    context_policy: Literal["drop", "summarise"] = Field(
        default="drop",
        description="What happens to the oldest turns of a conversation that outgrows the window, unless the "
        "conversation says otherwise: they are left out, or a summary takes their place.",
    )
    abandon: Literal["at_once", "grace", "never"] = Field(
        default="never",
        description="When a stored reply whose last reader has left is stopped. Background replies and those with an "
        "Idempotency-Key never are; replies that are not stored always are, at once.",
    )
    abandon_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=86_400,
        allow_inf_nan=False,
        description="The grace of `abandon = grace`, in seconds.",
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        allow_inf_nan=False,
        description="Days after which conversations and responses that nobody touched are deleted. Unset: never.",
    )
    idempotency_hours: float = Field(
        default=24.0,
        gt=0,
        le=720,
        allow_inf_nan=False,
        description="Hours for which an Idempotency-Key is remembered.",
    )
    visitor_minutes: float = Field(
        default=15.0, gt=0, le=1440, allow_inf_nan=False, description="Minutes for which a visitor's token is good."
    )
    visitor_tokens_per_minute: int | None = Field(
        default=None, ge=1, le=2**53, description="Token budget of one visitor for each minute. Unset: none."
    )
    visitor_tokens_per_day: int | None = Field(
        default=None, ge=1, le=2**53, description="Token budget of one visitor for each day in UTC. Unset: none."
    )
    visitor_requests_per_minute: int | None = Field(
        default=None, ge=1, le=2**31, description="Requests of one visitor in each minute. Unset: no limit."
    )
    conversation_tokens: int | None = Field(
        default=None, ge=1, le=2**53, description="Token budget of one conversation in total. Unset: none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe line to log."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Shape of log lines. auto: console on a terminal, json elsewhere."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name not in TRUTHS:  # or `port = true` would be port 1
            raise ValueError("must not be true or false")
        return value

    @field_validator("flash")
    @classmethod
    def _suits_the_cache(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value == "off" and info.data.get("kv_type") == "q8_0":
            raise ValueError("kv_type = 'q8_0' needs flash attention")
        return value

    @field_validator("origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, found, rest = origin.partition("://")
            if origin != "*" and not (found and scheme and rest and "/" not in rest):
                raise ValueError(f"{origin!r} is no origin; write scheme and host as in https://shop.example")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks: list[str] = []
        for text in value:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError(f"{text!r} is no address and no network such as 10.0.0.0/8") from None
            networks.append(str(network) if "/" in text else text)
        return tuple(networks)

    @property
    def visitor_limits(self) -> Limits:
        return Limits(
            tokens_per_minute=self.visitor_tokens_per_minute,
            tokens_per_day=self.visitor_tokens_per_day,
            requests_per_minute=self.visitor_requests_per_minute,
        )

    @property
    def conversation_limits(self) -> Limits:
        return Limits(tokens_total=self.conversation_tokens)

    @property
    def database_place(self) -> str:
        """A path, a postgresql:// URL, or "memory"."""
        return self.database or str(state_folder() / "frontdesk.db")

    @property
    def parked_place(self) -> Path | None:
        """The folder for parked conversations; `None` if they are not to outlive the server."""
        return Path(self.parked_folder) if self.parked_folder and self.parked_disk_mib else None

    def exactly(self, of_model: bool) -> bool:
        """Whether to open a model `exact` that its card says `of_model` of."""
        return of_model if self.exact is None else self.exact

    def window(self, model_context: int) -> int:
        """Tokens that one conversation may hold with a model that was trained for `model_context` tokens."""
        wanted = self.ctx or min(model_context, DEFAULT_WINDOW)
        return min(wanted, self.kv_tokens or wanted)

    def kv_cells(self, window: int, at_most: int | None = None, *, streams: bool = False) -> int:
        """Cells of the KV cache: a window or more, with `streams` one for each slot; `at_most` is what memory has."""
        if self.kv_tokens:
            return self.kv_tokens
        cells = window * (self.slots if streams else min(self.slots, SHARED_CONVERSATIONS))
        return max(window, cells if at_most is None else min(cells, at_most))


def load(file: Path | None = None, arguments: Mapping[str, Any] | None = None) -> Settings:
    """Settings from every source; arguments that are `None` were not given. Raises `ConfigError` with one line."""
    file = file or _default_file()
    from_file = _read(file) if file else {}
    from_environment = EnvSettingsSource(Settings)()
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    origin = {name: str(file) for name in from_file}
    origin |= {name: PREFIX + name.upper() for name in from_environment}
    origin |= {name: "--" + name.replace("_", "-") for name in given}
    try:
        return Settings(**{**from_file, **from_environment, **given})
    except ValidationError as error:
        raise _config_error(error, origin) from None


def unknown_variables() -> list[str]:
    """`FRONTDESK_*` variables that name no setting, most likely misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {FILE_VARIABLE}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def share() -> Path:
    """The folder of `prompts/`, `weights/` and `web_demo/`: in the wheel, or in a checkout beside `backend/`."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_share", package.parents[1]):
        if (folder / "prompts").is_dir():
            return folder
    raise ConfigError(
        f"neither {package / '_share'} nor {package.parents[1]} holds prompts/: the installation is broken"
    )


def prompts_folder() -> Path:
    return share() / "prompts"


def weights_folder() -> Path:
    return share() / "weights"


def web_folder() -> Path:
    """The built files of the web demo."""
    return share() / "web_demo" / "dist"


def engine_environment(spin: int | None = None) -> dict[str, str]:
    """The environment of an engine's process.

    GOMP_SPINCOUNT: how long OpenMP's threads spin at a barrier before they sleep. libgomp's own choice (about 18 ms)
    makes a step many times slower as soon as anybody else wants a core; 10,000 costs nothing on a quiet machine.
    """
    return {"GOMP_SPINCOUNT": str(SPIN if spin is None else spin), **os.environ}


def state_folder() -> Path:
    """Where a user's own small files go, such as the history of `frontdesk chat`. May not exist yet. A user without a
    home folder, as some containers have, gets a place that cannot be written."""
    home = os.path.expanduser("~")  # stays as it is for such a user
    own = Path("/nonexistent" if home == "~" else home) / ".local" / "state"
    return Path(os.environ.get("XDG_STATE_HOME") or own) / "frontdesk"


def _default_file() -> Path | None:
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read settings file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    for key in values:
        if key not in Settings.model_fields:
            raise ConfigError(f"unknown setting {key!r} in {file}; docs/settings.md lists all", param=key)
    return values


def _config_error(error: ValidationError, origin: Mapping[str, str]) -> ConfigError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    reason = first["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return ConfigError(
        f"bad setting {name} = {first['input']!r} from {origin.get(name, 'the call')}: {reason}", param=name
    )
