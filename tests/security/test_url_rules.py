"""The rules on strangers' URLs, without a network: addresses, hosts, odd spellings, what the operator allows."""

from __future__ import annotations

import ipaddress
import re

import pytest
from tests.sentences import english

from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.url_rules import Allowed, UrlRefused, check_url, is_public
from kurir.settings import Settings, SettingsError

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1 127.0.0.53 127.1.2.3
127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.17.0.1 172.31.255.255 192.0.0.1
192.0.0.8 192.0.0.170 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255
192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 224.0.0.251 239.255.255.250 240.0.0.1
254.254.254.254 255.255.255.255
:: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
::ffff:192.168.1.1 ::ffff:0.0.0.0 64:ff9b::7f00:1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe
64:ff9b:1::1 64:ff9b:1::7f00:1 100::1 100:0:0:1::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1 2001:2::1 2001:db8::1
2001:db8:1:2::3 2001:1ff::1 2002:7f00:1:: 2002:a00:1:: 2002:c0a8:101:: 2002:a9fe:a9fe:: 2620:4f:8000::1 3ffe::1 3fff::1
3fff:fff::1 4000::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fd12:3456:789a::1 fdff:ffff::1 fe80::1 fe80::a9fe:a9fe
febf::1 fec0::1 feff::1 ff00::1 ff01::1 ff02::1 ff02::fb ff05::2 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
""".split()  # noqa: SIM905
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "99.255.255.255", "100.63.255.255", "100.128.0.1", "172.15.255.255",
    "172.32.0.1", "192.0.1.1", "198.17.255.255", "223.255.255.254", "2606:4700:4700::1111", "2a00:1450:4001:831::200e",
    "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1",
]  # fmt: skip
ODD_URLS = [
    # numbers that some parsers take for addresses
    "http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://127.0.1/", "http://0/",
    "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://127.0.0.01/", "http://0x7f.1/", "http://127.0x0.0.1/",
    "http://1.2.3.4.5/", "http://256.256.256.256/", "http://example.0x1/", "http://example.123/", "http://00.0.0.0/",
    "http://127.0.0.1./", "http://10.0.0.1:80/", "http://00000177.0.0.1/", "http://0x/", "http://999999999999/",
    # other ways to write loopback
    "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/", "https://localhost:443/",
    "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.0.0.1/", "http://%31%32%37.0.0.1/", "http://127.0.0.1%00/",
    "http://%6c%6f%63%61%6c%68%6f%73%74/", "http://lo\u00adcalhost/", "http://[::1%25lo]/", "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[::]:80/",
    "http://[0:0:0:0:0:0:0:1]/", "http://[::1]:443/", "http://[v1.x]/", "http://[127.0.0.1]/",
    # schemes
    "", " ", "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "data:text/plain,x", "javascript:1",
    "dict://example.com/", "ldap://example.com/", "jar:http://example.com!/", "unix:///run/x.sock", "ws://example.com/",
    "//example.com/x", "/etc/passwd", "example.com/x", "http:example.com", "http:/example.com", "httpx://example.com/",
    "view-source:http://example.com", "blob:http://example.com/x", "http+unix://x/",
    # authority tricks
    "http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/", "http://:@example.com/",
    "http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/",
    "http://example.com\\@127.0.0.1/", "http://example.com\\.evil.com/", "http://127.0.0.1\\example.com/",
    "http://exam ple.com/", "http://example.com%2f@x/", "http://example.com%00.x/", "http://example\x00.com/",
    "http://example.com\r\nHost: x/", "http://example.com\t/", "http://example.com/\nX: y", "http:///path", "http://",
    "http://:80/", "http://./", "http://../", "http://a..b/", "http://.example.com/", "http://exa*mple.com/",
    "http://example.com,127.0.0.1/", "http://example.com;x/", "http://<script>/", "http://[::1/", "http://::1/",
    "http://[::1]x/", "http://[]/", "http://" + "a" * 64 + ".com/", "http://" + "a." * 127 + "com/",
    "http://example.com/" + "a" * 2048, "http://-.-@/", "http://[1.1.1.1]/",
    # ports
    "http://example.com:22/", "http://example.com:25/", "http://example.com:3306/", "http://example.com:6379/",
    "http://example.com:8080/", "https://example.com:8443/", "http://example.com:0/", "http://example.com:65536/",
    "http://example.com:-1/", "http://example.com:99999999999/", "http://example.com:80a/", "http://example.com:8 0/",
    "http://1.1.1.1:8080/", "http://[2606:4700:4700::1111]:81/", "http://example.com:80:80/", "http://example.com:０/",
]  # fmt: skip


def literal(address: str) -> str:
    return f"http://[{address}]/x" if ":" in address else f"http://{address}/x"


def case_id(value: str) -> str:
    """A case's id by which pytest can be asked for it alone: "::", quotes and the like have a meaning there."""
    return re.sub(r"[^0-9A-Za-z.]+", "_", value)


TABLE = [literal(address) for address in PRIVATE] + ODD_URLS


# -- the table, without a network --------------------------------------------------------------------------------------


def test_the_table_is_as_large_as_promised() -> None:
    assert len(set(TABLE)) >= 200


@pytest.mark.parametrize("url", TABLE, ids=case_id)
def test_refused_from_the_url_alone(url: str) -> None:
    with pytest.raises(UrlRefused) as refusal:
        check_url(url, Allowed())
    assert "traceback" not in english(refusal.value.reason).lower()
    assert len(english(refusal.value.reason)) < 80


@pytest.mark.parametrize("address", PRIVATE, ids=case_id)
def test_private_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC, ids=case_id)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    check_url(literal(address), Allowed())


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("http://example.com", "http://example.com"),
        ("  https://example.com/a b.png ", "https://example.com/a%20b.png"),
        ("HTTPS://Example.COM:443/x#frag", "https://example.com/x"),
        ("http://example.com:80/?u=http://127.0.0.1@x", "http://example.com/?u=http://127.0.0.1@x"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://a_b.example.com/", "https://a_b.example.com/"),
        ("https://1.example.com/", "https://1.example.com/"),
        ("http://127.0.0.1.nip.example/", "http://127.0.0.1.nip.example/"),
    ],
)
def test_ordinary_urls_pass(url: str, requested: str) -> None:
    assert str(check_url(url, Allowed())) == requested


def test_what_the_operator_allows() -> None:
    pair = Allowed.parse(["127.0.0.1:9000", "files.internal:8080", "[::1]:9001"])
    for url in ("http://127.0.0.1:9000/x", "http://FILES.internal:8080/x", "http://[::1]:9001/"):
        check_url(url, pair)
    for url in ("http://127.0.0.1/", "http://127.0.0.1:9001/", "http://127.0.0.2:9000/", "http://files.internal:81/"):
        with pytest.raises(UrlRefused):
            check_url(url, pair)
    network = Allowed.parse(["10.1.0.0/16", "fd00::/8"])
    for url in ("http://10.1.2.3:5000/", "http://[fd00::1]:81/", "http://[::ffff:10.1.2.3]/", "http://name:5000/"):
        check_url(url, network)
    for url in ("http://10.2.0.1/", "http://1.1.1.1:5000/", "http://127.0.0.1/", "http://0x0a010203/"):
        with pytest.raises(UrlRefused):
            check_url(url, network)


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "host", "host:", "host:0", "host:70000", ":80", "10.0.0.0/33", "a/b:1"]
)
def test_a_bad_allowed_network_is_named(entry: str) -> None:
    with pytest.raises(SettingsError, match="KURIR_ALLOWED_NETWORKS"):
        SafeFetch(Settings(allowed_networks=(entry,)))
