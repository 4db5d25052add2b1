import pytest

from app.domain.broker_address import Kind, read_broker_address


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("redis://", "redis://127.0.0.1:6379/0"),
        ("redis://:6380/3", "redis://127.0.0.1:6380/3"),
        ("redis://user:p%40ss%3A%2F@host:1/15", "redis://user:p%40ss%3A%2F@host:1/15"),
        ("redis://:hush@[::1]:7/2", "redis://:hush@[::1]:7/2"),
        ("redis://host?db=4", "redis://host:6379/4"),
        ("rediss://host:6390/1", "rediss://host:6390/1"),
        (
            "redis+socket:///tmp/a%20b%25/%23.sock?virtual_host=5",
            "redis+socket:///tmp/a%20b%25/%23.sock?virtual_host=5",
        ),
        ("redis://:a;b@host:1/0", "redis://:a%3Bb@host:1/0"),
        ("redis+socket:///tmp/it?db=2", "redis+socket:///tmp/it?virtual_host=2"),
        (
            "sentinel://:hush@one:1/3;sentinel://:hush@two/3?master_name=mine",
            "sentinel://:hush@one:1/3;sentinel://:hush@two:26379/3",
        ),
    ],
)
def test_an_address_is_read_and_written_as_celery_takes_it(text: str, url: str) -> None:
    assert read_broker_address(text).url == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://host", "must start with one of redis://"),
        ("host:6379", "must start with"),
        ("redis://host:port/0", "host or port"),
        ("redis://[::1/0", "host or port"),
        ("redis://host/abc", "is no number"),
        ("redis://host/-1", "is no number"),
        ("redis://host?ssl_ca_certs=/ca.pem", "start the address with rediss://"),
        ("redis://host?master_name=mine", "start the address with sentinel://"),
        ("redis://host?sockettimeout=3", "sockettimeout"),
        ("redis://host/0#part", "%23"),
        ("redis://:pa#ss@host/0", "%23"),
        ("rediss://host?ssl_cert_reqs=sometimes", "one of required, optional, none"),
        ("rediss://host?ssl_check_hostname=perhaps", "true or false"),
        ("rediss://host?ssl_cert_reqs=none&ssl_check_hostname=true", "can only be false"),
        ("sentinel://one", "add [?]master_name=NAME"),
        ("redis+socket://host/path", "absolute path"),
        ("redis+socket:///", "absolute path"),
        ("redis+socket:///tmp/it?ssl_cert_reqs=none", "no option of a socket"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_broker_address(text)


@pytest.mark.parametrize("words", ["required", "CERT_REQUIRED"])
def test_tls_is_spelled_as_redis_py_or_as_celery_has_it(words: str) -> None:
    address = read_broker_address(f"rediss://host?ssl_cert_reqs={words}&ssl_ca_certs=/etc/ca%20s.pem")

    assert address.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/etc/ca s.pem"}


def test_tls_checks_certificate_and_name_unless_it_is_told_not_to() -> None:
    plain, unchecked = (
        read_broker_address("rediss://host"),
        read_broker_address("rediss://host?ssl_cert_reqs=CERT_NONE"),
    )

    assert plain.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    assert unchecked.tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


def test_sentinels_have_credentials_and_tls_of_their_own() -> None:
    text = "sentinel://me:hush@one:1;sentinel://two:2?master_name=mine&sentinel_password=quiet&ssl=true"

    address = read_broker_address(text)

    assert (address.kind, address.servers) == (Kind.SENTINEL, (("one", 1), ("two", 2)))
    assert (address.username, address.password, address.master_name) == ("me", "hush", "mine")
    assert address.sentinel_options == {"password": "quiet"}
    assert address.tls is not None


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:hush@host:1/0",
        "rediss://:hush@host/0",
        "redis+socket://:hush@/tmp/it?virtual_host=0",
        "sentinel://:hush@one;sentinel://:hush@two?master_name=mine&sentinel_password=hush",
    ],
)
def test_no_password_is_in_what_is_shown_of_an_address(text: str) -> None:
    address = read_broker_address(text)

    assert "hush" not in address.shown
    assert "hush" not in repr(address)
