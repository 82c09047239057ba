from __future__ import annotations

import pytest
from pydantic import ValidationError

from certify.service.errors import SettingsError
from certify.service.settings import ENV_PREFIX, Settings, load_settings


def test_defaults_start_a_service_with_nothing_set() -> None:
    settings = load_settings()
    assert settings.backend == "embedded"
    assert settings.seed_key is None
    assert settings.max_samples == 100_000


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_MAX_QUEUED", "7")
    assert load_settings().max_queued == 7
    assert load_settings(max_queued="9").max_queued == 9
    assert load_settings(max_queued=None).max_queued == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", "http"),
        ("http_port", "70000"),
        ("backend", "gpu"),
        ("seed_key", "short"),
        ("max_running", "0"),
        ("max_queued", "-1"),
        ("max_body_bytes", "10MB"),
        ("max_pixels", "0"),
        ("max_samples", "1.5"),
        ("body_seconds", "nan"),
        ("call_seconds", "inf"),
        ("ready_seconds", "0"),
        ("grace_seconds", "-3"),
        ("log_level", "loud"),
        ("fake_delay_seconds", "-1"),
    ],
)
def test_a_bad_value_names_its_key(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(ENV_PREFIX + name.upper(), value)
    with pytest.raises(SettingsError, match=f"^{ENV_PREFIX}{name.upper()}: "):
        load_settings()


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="CERTIFY_MAX_QUEUE:"):
        load_settings(max_queue=3)


def test_the_key_is_in_no_error_message_and_no_representation() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(seed_key="hunter2")
    assert "hunter2" not in str(caught.value)
    assert "expected at least 32 bytes, got 7" in str(caught.value)
    assert "hunter2" not in repr(load_settings(seed_key="hunter2" * 5))


def test_the_key_is_measured_in_bytes_not_characters() -> None:
    assert load_settings(seed_key="\u00fc\u00e4" * 8).seed_key is not None  # 32 bytes of UTF-8


def test_white_space_around_the_key_is_not_of_it() -> None:
    settings = load_settings(seed_key=f"  {'0123456789abcdef' * 2}\n")
    assert settings.seed_key is not None and settings.seed_key.get_secret_value() == "0123456789abcdef" * 2
    with pytest.raises(SettingsError, match="CERTIFY_SEED_KEY: .*at least 32 bytes, got 3"):
        load_settings(seed_key="key" + " " * 40)


def test_a_key_that_is_too_short_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="CERTIFY_SEED_KEY: ") as caught:
        load_settings(seed_key="z" * 31)
    assert "zz" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"), [("CERTIFY_MAX_QUEUE", "CERTIFY_MAX_QUEUED"), ("certify_seed_kee", "CERTIFY_SEED_KEY")]
)
def test_a_misspelt_variable_is_refused_with_the_name_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "a secret")
    with pytest.raises(SettingsError, match=f"^{name}: there is no such setting; is {meant} meant\\?") as caught:
        load_settings()
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize("service", ["CERTIFY", "CERTIFY_TRITON", "CERTIFY_2"])
def test_what_kubernetes_sets_for_services_is_no_misspelling(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.11",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": "tcp://10.0.0.11:8000",
        "PORT_8000_TCP": "tcp://10.0.0.11:8000",
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "10.0.0.11",
    }.items():
        monkeypatch.setenv(f"{service}_{name}", value)
    assert load_settings().http_port == 8000


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValidationError):
        load_settings().max_running = 5


def test_no_setting_is_named_like_a_variable_that_kubernetes_makes_for_a_service_called_certify() -> None:
    taken = {"port", "service_host", "service_port"}
    assert not taken & set(Settings.model_fields)
    assert not any(name.startswith(("port_", "service_port_")) for name in Settings.model_fields)
