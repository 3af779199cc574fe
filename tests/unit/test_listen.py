"""One rule for where nginx and the admin server listen."""

from __future__ import annotations

import errno
import socket

import pytest

from rayproxy.listen import Listen, kernel_has_ipv6, parse_listen

EVERY = Listen("", 8080)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8080", EVERY),
        ("[::]:8080", EVERY),
        ("[0:0::0]:8080", EVERY),
        ("0.0.0.0:8080", Listen("0.0.0.0", 8080)),
        ("127.0.0.1:80", Listen("127.0.0.1", 80)),
        ("[::1]:80", Listen("::1", 80)),
        ("[FD00:0::1]:80", Listen("fd00::1", 80)),
    ],
)
def test_a_port_alone_and_the_unspecified_address_of_ipv6_are_every_address(text, meant):
    assert parse_listen(text) == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is not address:port or a port, such as 127.0.0.1:8080, [::1]:8080 or 8080"),
        ("*:80", "is not address:port"),
        ("::1:80", "is not address:port"),
        ("[::1]", "is not address:port"),
        ("[fe80::1%lo]:80", "is not address:port"),
        ("0", "is not address:port"),
        ("65536", "is not address:port"),
        ("8080\n", "is not address:port"),
        ("[127.0.0.1]:80", "holds an IPv4 address: write 127.0.0.1:80"),
        ("[::ffff:10.0.0.1]:80", "holds an IPv4 address: write 10.0.0.1:80"),
        ("[:::]:80", "does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text, words):
    with pytest.raises(ValueError, match=r".") as refused:
        parse_listen(text)
    assert words in str(refused.value)


def test_every_address_is_a_socket_for_each_family_that_the_kernel_has():
    assert EVERY.for_nginx(ipv6=True) == ("0.0.0.0:8080", "[::]:8080 ipv6only=on")
    assert EVERY.for_nginx(ipv6=False) == ("0.0.0.0:8080",)


def test_one_address_is_that_address_whatever_the_kernel_has():
    for ipv6 in (True, False):
        assert Listen("::1", 1).for_nginx(ipv6=ipv6) == ("[::1]:1",)
        assert Listen("0.0.0.0", 1).for_nginx(ipv6=ipv6) == ("0.0.0.0:1",)


def test_a_fault_that_says_nothing_of_ipv6_is_not_taken_for_its_absence(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    kernel_has_ipv6.cache_clear()
    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(OSError, match="Too many open files"):
        kernel_has_ipv6()
