"""URL text to endpoints and back."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmux import URLError
from eventmux.urls import Endpoint, parse_url


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("tcp://127.0.0.1:7007", Endpoint("tcp", "127.0.0.1", 7007)),
        ("tcp://localhost:0", Endpoint("tcp", "localhost", 0)),
        ("tcp://my-host.example:65535", Endpoint("tcp", "my-host.example", 65535)),
        ("tcp://[::1]:80", Endpoint("tcp", "::1", 80)),
        ("tcp://[fe80::1%eth0]:80", Endpoint("tcp", "fe80::1%eth0", 80)),
        ("tcp://:80", Endpoint("tcp", "", 80)),
        ("unix:///run/my server.sock", Endpoint("unix", path="/run/my server.sock")),
        ("unix://relative.sock", Endpoint("unix", path="relative.sock")),
        ("unix://@abstract", Endpoint("unix", path="@abstract")),
        ("unix:///a?b#c%20://d", Endpoint("unix", path="/a?b#c%20://d")),
    ],
)
def test_urls_are_understood_and_given_back(url, endpoint):
    assert parse_url(url) == endpoint
    assert str(endpoint) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tcp",
        "tcp:",
        "tcp:/host:80",
        "//host:80",
        "://host:80",
        "udp://host:80",
        "TCP//host:80",
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://host:http",
        "tcp://host:-1",
        "tcp://host:+1",
        "tcp://host:65536",
        "tcp://host:1 ",
        "tcp://host:80/",
        "tcp://host:80/path",
        "tcp://host:80?query",
        "tcp://host:80#fragment",
        "tcp://user@host:80",
        "tcp://user:word@host:80",
        "tcp://::1:80",
        "tcp://[::1:80",
        "tcp://[::1]",
        "tcp://[host]:80",
        "unix://",
        "unix://a\0b",
    ],
)
def test_what_is_wrong_is_refused_and_named(url):
    with pytest.raises(URLError) as caught:
        parse_url(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "tcp://host:80\n",
        "tcp://host:8\n0",
        "tcp://ho\tst:80",
        "tcp://host:80?",
        "tcp://host:80#",
        "tcp://[::1]x:80",
        "tcp://x[::1]:80",
    ],
)
def test_what_is_not_the_text_of_an_endpoint_is_refused(url):
    # urlsplit() drops or ignores these; what was meant is anybody's guess.
    with pytest.raises(URLError):
        parse_url(url)


def test_the_error_is_a_value_error():
    with pytest.raises(ValueError, match="the scheme 'http' is not tcp or unix"):
        parse_url("http://host:80")


@given(st.text(min_size=1).filter(lambda path: "\0" not in path))
def test_any_path_comes_back(path):
    assert parse_url(f"unix://{path}") == Endpoint("unix", path=path)
    assert str(parse_url(f"unix://{path}")) == f"unix://{path}"


@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_ip_address_comes_back(address, port):
    endpoint = Endpoint("tcp", str(address), port)
    assert parse_url(str(endpoint)) == endpoint


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    for url in (text, f"tcp://{text}", f"tcp://{text}:80", f"tcp://[{text}]:80"):
        with suppress(URLError):
            assert isinstance(parse_url(url), Endpoint)
