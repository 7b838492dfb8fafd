"""Settings: which source wins, what is refused and how that is said, and what the derived numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from frontdesk import config
from frontdesk.config import Settings, load
from frontdesk.errors import ConfigError
from frontdesk.server.plan import parked_bytes


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(config.PREFIX + name.upper(), raising=False)
    monkeypatch.delenv(config.FILE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def toml(text: str, name: str = "frontdesk.toml") -> Path:
    file = Path(name)
    file.write_text(text)
    return file


def test_argument_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone would set --port and find the server on another one."""
    assert load().port == 8000
    file = toml("port = 1\nslots = 1\nctx = 128")
    assert load(file).port == 1
    monkeypatch.setenv("FRONTDESK_PORT", "2")
    monkeypatch.setenv("FRONTDESK_SLOTS", "2")
    settings = load(file, {"port": "3", "slots": None})
    assert (settings.port, settings.slots, settings.ctx) == (3, 2, 128)


def test_the_settings_file_is_found_where_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frontdesk.toml in the working directory, or a file named by FRONTDESK_CONFIG, would be ignored."""
    toml("port = 11")
    assert load().port == 11
    other = toml("port = 12", "other.toml")
    monkeypatch.setenv("FRONTDESK_CONFIG", str(other))
    assert load().port == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ["'prot'", "frontdesk.toml"]),
        ("port = ", ["frontdesk.toml", "TOML"]),
        ("port = 70000", ["port", "70000", "65535", "frontdesk.toml"]),
        ("port = true", ["port", "frontdesk.toml"]),
        ('[server]\nport = "x"', ["'server'"]),
    ],
)
def test_a_bad_file_is_refused_with_its_name(text: str, words: list[str]) -> None:
    """A misspelt or impossible line would be ignored, or reported without saying where it stands."""
    toml(text)
    with pytest.raises(ConfigError) as caught:
        load()
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_was_named_must_exist() -> None:
    """`--config typo.toml` would start a server with default settings."""
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file"):
        load(Path("gone.toml"))


BOUNDS = {
    "port": (-1, 65536),
    "ctx": (63, 4_194_305),
    "kv_tokens": (63, 67_108_865),
    "parked_mib": (-1, 67_108_865),
    "parked_disk_mib": (-1, 67_108_865),
    "slots": (0, 257),
    "spin": (-1, 2**31 + 1),
    "threads": (0, 1025),
    "chunk": (15, 8193),
    "chunk_busy": (0, 8193),
    "max_waiting": (0, 100_001),
    "max_body_bytes": (1023, 1_073_741_825),
    "max_connections": (0, 1_000_001),
    "ping_seconds": (0, "inf"),
    "send_timeout": (0, "nan"),
    "drain_seconds": (-1, 3601),
    "header_timeout": (0, 3601),
    "body_timeout": (-5, 1e300),
    "answer_reserve": (0, 1_048_577),
    "abandon_seconds": (0, 86_401),
    "retention_days": (0, "inf"),
    "idempotency_hours": (0, 721),
    "visitor_minutes": (0, 1441),
    "visitor_tokens_per_minute": (0, 2**53 + 1),
    "visitor_tokens_per_day": (0, 2**53 + 1),
    "visitor_requests_per_minute": (0, 2**31 + 1),
    "conversation_tokens": (0, 2**53 + 1),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, pair in BOUNDS.items() for value in pair])
def test_values_out_of_bounds_name_setting_value_limit_and_source(name: str, value: object) -> None:
    """A nonsensical size would reach llama.cpp, or the message would not say what to change."""
    with pytest.raises(ConfigError) as caught:
        load(None, {name: value})
    message = caught.value.message
    assert message.startswith(f"bad setting {name} = ")
    assert f"from --{name.replace('_', '-')}: must be" in message
    assert caught.value.param == name


def test_every_number_has_both_bounds_and_every_setting_a_description() -> None:
    """A new setting would come without a limit, or stay undocumented."""
    kinds = {name: str(field.annotation) for name, field in Settings.model_fields.items()}
    numbers = {name for name, kind in kinds.items() if "int" in kind or "float" in kind}
    assert numbers == set(BOUNDS)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    "name",
    ["kv_type", "kv_layout", "flash", "tune", "log_level", "log_format", "auth", "abandon", "context_policy"],
)
def test_choices_are_closed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown choice would be found only after the model was loaded."""
    monkeypatch.setenv(config.PREFIX + name.upper(), "purple")
    with pytest.raises(ConfigError, match=f"{name} = 'purple' from FRONTDESK_{name.upper()}: must be '"):
        load()


def test_origins_come_as_list_or_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop's page would be refused although its origin is listed."""
    toml('origins = ["https://a.example", "http://localhost:3000"]')
    assert load().origins == ("https://a.example", "http://localhost:3000")
    monkeypatch.setenv("FRONTDESK_ORIGINS", "https://b.example, *")
    assert load().origins == ("https://b.example", "*")
    for wrong in ("shop.example", "https://a.example/path", "https://"):
        with pytest.raises(ConfigError, match="is no origin"):
            load(None, {"origins": wrong})


def test_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt proxy would not be believed, and all its visitors would count as one address."""
    monkeypatch.setenv("FRONTDESK_TRUSTED_PROXIES", "127.0.0.1, 10.1.2.3/8,::1")
    assert load().trusted_proxies == ("127.0.0.1", "10.0.0.0/8", "::1")
    for wrong in ("proxy.example", "*", "10.0.0.0/40"):
        with pytest.raises(ConfigError, match="is no address and no network"):
            load(None, {"trusted_proxies": wrong})


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`FRONTDESK_CTX= frontdesk serve` would fail instead of taking the default."""
    monkeypatch.setenv("FRONTDESK_CTX", "")
    assert load().ctx is None


def test_settings_cannot_be_changed() -> None:
    """Two parts of one server could run with different settings."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """FRONTDESK_PROT=80 would be ignored in silence."""
    monkeypatch.setenv("FRONTDESK_PROT", "80")
    monkeypatch.setenv("FRONTDESK_CONFIG", "x.toml")
    assert config.unknown_variables() == ["FRONTDESK_PROT"]


def test_the_window_follows_the_model_up_to_a_cap() -> None:
    """A model with a million tokens of context would take all memory, or a small one get a window it never saw."""
    assert Settings().window(2048) == 2048
    assert Settings().window(131072) == 8192
    assert Settings(ctx=32768).window(131072) == 32768
    assert Settings(kv_tokens=512).window(2048) == 512


def test_kv_cells_follow_slots_and_memory_but_hold_one_window() -> None:
    """The cache would be larger than memory, or too small for a single full conversation."""
    assert Settings().kv_cells(2048) == 8192
    assert Settings(slots=1).kv_cells(2048) == 2048
    assert Settings().kv_cells(2048, at_most=5000) == 5000
    assert Settings().kv_cells(2048, at_most=100) == Settings().kv_cells(2048, at_most=0) == 2048
    assert Settings(kv_tokens=999).kv_cells(512, at_most=100) == 999


def test_prompts_and_weights_are_found() -> None:
    """Neither a checkout nor an installed wheel could serve anything."""
    assert (config.prompts_folder() / "demo_shop.md").is_file()
    assert (config.weights_folder() / "manifest.toml").is_file()


@pytest.mark.parametrize(
    ("setting", "free", "mib"),
    [(None, None, 1024), (None, 2**40, 1024), (None, 1000 * 2**20, 100), (0, 2**40, 0), (7, 1, 7)],
)
def test_parked_conversations_take_a_share_of_what_is_free(setting: int | None, free: int | None, mib: int) -> None:
    """A small machine would be filled with conversations that nobody comes back to, or `0` would not turn it off."""
    assert parked_bytes(Settings(parked_mib=setting), free) == mib * 2**20


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"database": "/data/shop.db"}, None),
        ({"database": "memory", "parked_folder": "/fast"}, Path("/fast")),
        ({"parked_folder": "/fast", "parked_disk_mib": 0}, None),
    ],
)
def test_parked_conversations_lie_only_where_somebody_wants_them(given: dict[str, Any], place: Path | None) -> None:
    """What is deleted from the database would stay on a disk without anybody having asked for it."""
    assert Settings(**given).parked_place == place


@pytest.mark.parametrize("name", ["speculate", "pad_rows", "exact"])
def test_switches_can_be_turned_off_everywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lever could not be turned off to see what it does."""
    assert getattr(load(None, {name: "false"}), name) is False
    toml(f"{name} = false")
    assert getattr(load(), name) is False
    monkeypatch.setenv(config.PREFIX + name.upper(), "true")
    assert getattr(load(), name) is True


def test_a_user_without_a_home_folder_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user has no name and no HOME every start would end in a traceback, whatever the settings."""
    for variable in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54_321)  # of nobody
    assert config.state_folder() == Path("/nonexistent/.local/state/frontdesk")
