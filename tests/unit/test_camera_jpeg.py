from contextlib import suppress

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.camera.jpeg import MAX_TRAILER, jpeg_size, scans
from edge.errors import FrameDamaged
from tests.camera_rigs import HEIGHT, WIDTH, encoded, picture

WHOLE = encoded()


def test_the_size_comes_from_the_frame_header() -> None:
    assert jpeg_size(memoryview(WHOLE)) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "before_the_frame_header",
    [
        pytest.param(b"\xff\xe1\x00\x10Exif" + bytes(10), id="an application segment"),
        pytest.param(b"\xff\xff\xff\xfe\x00\x04hi", id="fill bytes and a comment"),
        pytest.param(b"\xff\x01", id="a marker that stands alone"),
        pytest.param(b"\xff\xed\x00\x08\xff\xc0\xff\xd9\x00\x00", id="a segment with markers in it"),
    ],
)
def test_other_segments_are_passed_over(before_the_frame_header: bytes) -> None:
    assert jpeg_size(memoryview(WHOLE[:2] + before_the_frame_header + WHOLE[2:])) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("marker", [0x00, 0x02, 0x4F, 0xBF])
def test_a_marker_that_decoders_pass_over_hides_no_other_size(marker: int) -> None:
    at = WHOLE.index(b"\xff\xc0")
    ours = WHOLE[at : at + 19]
    hidden = ours[:5] + (20_000).to_bytes(2, "big") + (30_000).to_bytes(2, "big") + ours[9:]
    comment = b"\xff\xfe" + (2 + len(ours)).to_bytes(2, "big")
    jump = bytes([0xFF, marker]) + (2 + len(hidden) + len(comment)).to_bytes(2, "big")
    with pytest.raises(FrameDamaged, match="no frame header"):
        jpeg_size(memoryview(WHOLE[:at] + jump + hidden + comment + WHOLE[at:]))


def test_scans_are_counted() -> None:
    assert scans(memoryview(WHOLE)) == 1
    progressive = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert 2 < scans(memoryview(progressive)) <= 12


@given(st.integers(0, len(WHOLE) - 2))
def test_no_beginning_of_a_jpeg_passes_for_a_whole_one(length: int) -> None:
    with pytest.raises(FrameDamaged):
        jpeg_size(memoryview(WHOLE)[:length])


def test_a_picture_may_be_padded_but_not_by_much() -> None:
    assert jpeg_size(memoryview(WHOLE + bytes(MAX_TRAILER))) == (WIDTH, HEIGHT)
    with pytest.raises(FrameDamaged, match="before its end"):
        jpeg_size(memoryview(WHOLE + bytes(MAX_TRAILER + 2)))


@given(st.binary(max_size=300))
def test_any_bytes_give_a_size_or_a_damaged_frame(data: bytes) -> None:
    for candidate in (data, b"\xff\xd8" + data, b"\xff\xd8" + data + b"\xff\xd9"):
        with suppress(FrameDamaged):
            width, height = jpeg_size(memoryview(candidate))
            assert 0 < width < 65536
            assert 0 < height < 65536
