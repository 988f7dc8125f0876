import pytest
from pydantic import ValidationError

from drivers.camera.network import NetworkSettings
from edge.config import check
from edge.errors import ConfigInvalid


@pytest.mark.parametrize(
    "url", ["http://10.0.0.9/mjpeg", "https://cam/v?x=1", "rtsp://[fe80::1]:554/s", "rtsps://cam:322/s"]
)
def test_urls_of_ip_cameras_are_taken(url: str) -> None:
    assert NetworkSettings(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://cam/x",
        "/dev/video0",
        "http:///x",
        "http://cam:99999/x",
        "http://cam:0/x",
        "rtsp://cam:rtsp/x",
        "rtsp://[fe80::1/x",
        "http://cam/a b",
        "http://cam/\n",
        "concat:a|b",
        "",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        NetworkSettings(url=url)


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://viewer:geheim@cam/", "keys of their own"), ("http://viewer:geheim", "a port that can't be")],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said) as raised:
        check(NetworkSettings, {"url": url}, where="lane.toml")
    assert "geheim" not in str(raised.value)


def test_a_password_without_a_user_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a username"):
        NetworkSettings(url="http://cam/", password="geheim")


def test_certificates_are_refused_where_there_is_no_tls() -> None:
    with pytest.raises(ValidationError, match="https"):
        NetworkSettings(url="http://cam/", tls_name="camera")


def test_the_password_is_not_shown() -> None:
    assert "geheim" not in repr(NetworkSettings(url="http://cam/", username="viewer", password="geheim"))
