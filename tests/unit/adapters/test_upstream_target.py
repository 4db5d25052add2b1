import pytest

from app.adapters.upstream.client import HttpUpstream
from app.adapters.upstream.target import Target, read_target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://models/v1", Target("models", 80, False, "models", "/v1")),
        ("http://models:80/v1/", Target("models", 80, False, "models", "/v1")),
        ("https://models", Target("models", 443, True, "models", "")),
        ("https://models:8443/a/b", Target("models", 8443, True, "models:8443", "/a/b")),
        ("https://models:80", Target("models", 80, True, "models:80", "")),
        ("HTTP://Models:8000/V1", Target("models", 8000, False, "models:8000", "/V1")),
        ("http://[::1]/v1", Target("::1", 80, False, "[::1]", "/v1")),
        ("http://[::1]:8000/v1", Target("::1", 8000, False, "[::1]:8000", "/v1")),
        ("http://bücher.example/v1", Target("xn--bcher-kva.example", 80, False, "xn--bcher-kva.example", "/v1")),
    ],
)
def test_a_base_url_names_a_server_and_a_path(url, target):
    assert read_target(url) == target


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://models/v1", "/v1/chat/completions"),
        ("http://models", "/chat/completions"),
        ("http://models/my%20models/ö x", "/my%20models/%C3%B6%20x/chat/completions"),
    ],
)
def test_an_endpoint_has_its_path_below_that_of_the_base_url(url, path):
    assert read_target(url).path_of("/v1/chat/completions") == path


def test_an_endpoint_can_add_no_header():
    assert read_target("http://models").path_of("/v1/a\r\nx: y") == "/a%0D%0Ax:%20y"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models:8000/v1",
        "ftp://models/v1",
        "http:///v1",
        "http://user:secret@models/v1",
        "http://user@models/v1",
        "http://models:99999/v1",
        "http://models:x/v1",
        "http://models/v1?key=secret",
        "http://models/v1#top",
        "http://[::1/v1",
    ],
)
def test_a_url_that_no_request_can_be_made_with_is_refused_without_telling_its_secrets(url):
    with pytest.raises(ValueError, match=r"\w") as refused:
        read_target(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("key", ["a\r\nx-evil: 1", "a\nb", "a\x00b"])
def test_a_key_that_no_header_can_carry_is_refused(key):
    with pytest.raises(ValueError, match="API key") as refused:
        HttpUpstream("http://models/v1", api_key=key, connect_timeout_s=1, first_byte_timeout_s=1)

    assert key not in str(refused.value)
