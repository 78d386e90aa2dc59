"""Every setting refuses what it cannot be, in one sentence that names it."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from kurir.demo import demo
from kurir.settings import Settings, unknown_settings
from kurir.settings_rules import RANGES, SettingsError

NUMBERS = {name: hint for name, hint in get_type_hints(Settings).items() if hint in (int, float)}
ODD = ["nan", "inf", "-inf", "-1", "1e400", "9" * 50, "9" * 5_000, "1,5", "many", "0x10", "½"]


def error_text(name: str, text: str) -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.load({f"KURIR_{name.upper()}": text})
    return str(refused.value)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_finite_and_in_its_range(name: str, text: str) -> None:
    message = error_text(name, text)
    assert message.startswith(f"KURIR_{name.upper()}: expected ")
    assert len(message.splitlines()) == 1
    assert len(message) < 200


@pytest.mark.parametrize("name", NUMBERS)
def test_the_ends_of_its_range_and_nothing_at_all_are_fine(name: str) -> None:
    least, most = RANGES[name]
    default = getattr(Settings(), name)
    assert least <= default <= most
    assert getattr(Settings.load({f"KURIR_{name.upper()}": ""}), name) == default
    beyond = NUMBERS[name](most) + 1
    assert str(int(most)) in error_text(name, str(beyond))


def test_every_number_has_a_range() -> None:
    assert NUMBERS.keys() == RANGES.keys()


@pytest.mark.parametrize(
    "text", ["foo", "ftp://a", "http://", "https://a:99999", "http://[::1", "http://a b", "//a", "a:1"]
)
@pytest.mark.parametrize("name", ["graph_url", "public_url", "gateway_url"])
def test_an_address_is_one(name: str, text: str) -> None:
    assert error_text(name, text).startswith(f"KURIR_{name.upper()}: expected an address such as http")


@pytest.mark.parametrize("text", ["foo", "10.0.0.300", "10.0.0.0/40", "127.0.0.1,proxy", "http://10.0.0.1"])
def test_proxies_are_addresses(text: str) -> None:
    assert error_text("trusted_proxies", text).startswith("KURIR_TRUSTED_PROXIES: expected addresses such as ")


@pytest.mark.parametrize("text", ["a b", "http://127.0.0.1", "a/b", "a" * 300, "a\nb"])
def test_a_host_is_written_like_one(text: str) -> None:
    message = error_text("host", text)
    assert message.startswith("KURIR_HOST: expected an address of this machine")
    assert len(message.splitlines()) == 1


def test_what_is_right_stays_right() -> None:
    values = {
        "KURIR_TRUSTED_PROXIES": "10.0.0.7, ::1, 10.1.2.3/8, *",
        "KURIR_HOST": "fe80::1%eth0",
        "KURIR_GRAPH_URL": "http://[::1]:1/v25.0",
        "KURIR_PUBLIC_URL": "https://wa.example.com",
        "KURIR_DEVICE_GAP": "1e1",
    }
    assert Settings.load(values).device_gap == 10


def test_a_data_folder_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.touch()
    for path in (file, file / "below", file / "far" / "below"):
        assert error_text("data_dir", str(path)) == f"KURIR_DATA_DIR: expected a folder, but {file} is a file"
    assert error_text("data_dir", str(tmp_path / ("x" * 300))).startswith("KURIR_DATA_DIR: ")
    assert Settings.load({"KURIR_DATA_DIR": str(tmp_path / "new" / "folder")})


def test_the_demos_own_setting_is_known() -> None:
    assert unknown_settings({"KURIR_SANDBOX_PORT": "8090"}) == []


def test_the_demo_keeps_the_networks_that_its_user_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KURIR_ALLOWED_NETWORKS", raising=False)
    assert demo._networks("http://127.0.0.1:8090") == "127.0.0.1:8090"
    file = tmp_path / "kurir.env"
    file.write_text("KURIR_ALLOWED_NETWORKS=10.0.0.0/8\n")
    monkeypatch.setenv("KURIR_CONFIG", str(file))
    assert demo._networks("http://127.0.0.1:8090") == "10.0.0.0/8,127.0.0.1:8090"
    monkeypatch.setenv("KURIR_ALLOWED_NETWORKS", "10.1.0.0/16, 10.2.0.1:80")
    assert demo._networks("http://127.0.0.1:8090") == "10.1.0.0/16, 10.2.0.1:80,127.0.0.1:8090"
