"""Headers of pictures, and multipart forms."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.vision.pictures import media_type_of, read_picture
from xiaozhi.base.errors import ProtocolError
from xiaozhi.testing.vendors.httpwire import form
from xiaozhi.web.multipart import read_form, split_form

LIMIT = 40_000_000


def jpeg(width: int, height: int, before: bytes = b"", marker: int = 0xC0) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\x00" + bytes(9)
    frame = bytes([0xFF, marker]) + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + app0 + before + frame + b"\xff\xda" + bytes(10) + b"\xff\xd9"


def png(width: int, height: int) -> bytes:
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + header + bytes(4)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(3)


def webp(kind: bytes, payload: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(payload)) + b"WEBP" + kind + bytes(4) + payload


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(28)


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height))


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14))


def webp_extended(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes(4) + sides)


MAKERS = {
    "image/jpeg": (jpeg,),
    "image/png": (png,),
    "image/gif": (gif,),
    "image/webp": (webp_lossy, webp_lossless, webp_extended),
    "image/bmp": (bmp,),
}


class PictureTests(SynchronousTestCase):
    def code(self, data: bytes, limit: int = LIMIT) -> str:
        error = self.assertRaises(ProtocolError, read_picture, data, limit)
        assert isinstance(error, ProtocolError)
        return error.code

    def test_every_format(self) -> None:
        for media_type, makers in MAKERS.items():
            for make in makers:
                picture = read_picture(make(640, 479), LIMIT)
                self.assertEqual((picture.width, picture.height), (640, 479), make)
                self.assertEqual(picture.media_type, media_type)

    def test_cut_short_anywhere(self) -> None:
        """Never another error, and never a size that was not read completely."""
        for makers in MAKERS.values():
            for make in makers:
                whole = make(640, 479)
                for end in range(len(whole)):
                    try:
                        picture = read_picture(whole[:end], LIMIT)
                    except ProtocolError as error:
                        self.assertIn(error.code, {"not_a_picture", "bad_picture"})
                    else:
                        self.assertEqual((picture.width, picture.height), (640, 479))

    def test_bombs(self) -> None:
        for bomb in (png(100_000, 100_000), jpeg(65535, 65535), gif(65535, 65535)):
            self.assertEqual(self.code(bomb), "picture_too_large")
        self.assertEqual(self.code(webp_extended(1 << 24, 1 << 24)), "picture_too_large")
        self.assertEqual(self.code(bmp(2**31 - 1, -(2**31))), "picture_too_large")
        read_picture(png(100, 100), 10_000)
        self.assertEqual(self.code(png(100, 101), 10_000), "picture_too_large")

    def test_no_size(self) -> None:
        for empty in (png(0, 5), jpeg(5, 0), gif(0, 0), webp_lossy(0, 1), bmp(-5, 5)):
            self.assertEqual(self.code(empty), "bad_picture")

    def test_jpeg_details(self) -> None:
        thumbnail = b"\xff\xe1" + struct.pack(">H", 60) + jpeg(7, 7)[:58].ljust(58)
        filled = b"\xff\xff\xff\xfe\x00\x04ab"
        tables = b"\xff\xc4\x00\x05abc\xff\xdb\x00\x03d"
        for before in (thumbnail, filled, tables, b"\xff\x01\xff\xd0"):
            self.assertEqual(read_picture(jpeg(640, 479, before), LIMIT).width, 640)
        self.assertEqual(read_picture(jpeg(640, 479, marker=0xC2), LIMIT).height, 479)
        self.assertEqual(self.code(jpeg(640, 479, b"\xff\xd9")), "bad_picture")
        self.assertEqual(self.code(jpeg(640, 479, b"\xff\xe0\x00\x00")), "bad_picture")
        self.assertEqual(self.code(jpeg(640, 479, b"junk")), "bad_picture")

    def test_a_jpeg_of_nothing_but_segments_is_given_up(self) -> None:
        for filler in (b"\xff" * 5_000_000, b"\xff\xfe\x00\x02" * 1_000_000):
            self.assertEqual(self.code(jpeg(1, 1, filler)), "bad_picture")

    def test_not_pictures(self) -> None:
        for data in (b"", b"GIF", b"<svg/>", b"RIFF1234WAVE", b"%PDF-1.4", b"II*\x00"):
            self.assertEqual(self.code(data), "not_a_picture")

    @settings(max_examples=150)
    @given(
        st.sampled_from(
            [
                b"",
                b"\xff\xd8\xff",
                b"\x89PNG\r\n\x1a\n",
                b"GIF89a",
                b"RIFF0000WEBPVP8 ",
                b"RIFF0000WEBPVP8L",
                b"RIFF0000WEBPVP8X",
                b"RIFF0000WEBP",
                b"BM",
            ]
        ),
        st.binary(max_size=200),
    )
    def test_random_bytes(self, magic: bytes, data: bytes) -> None:
        try:
            picture = read_picture(magic + data, LIMIT)
        except ProtocolError:
            return
        self.assertEqual(picture.media_type, media_type_of(magic + data))
        self.assertTrue(0 < picture.width * picture.height <= LIMIT)
        self.assertEqual(picture.data, magic + data)


class FormTests(SynchronousTestCase):
    kind = "multipart/form-data; boundary=----ESP32_CAMERA_BOUNDARY"

    def test_fields(self) -> None:
        body = form([("question", "这是什么?".encode()), ("file", b"\xff\xd8\r\n--\x00")])
        fields = read_form(self.kind, body)
        self.assertEqual(fields["question"].decode(), "这是什么?")
        self.assertEqual(fields["file"], b"\xff\xd8\r\n--\x00")

    def test_spellings(self) -> None:
        for kind in (
            'Multipart/Form-Data; charset=utf-8; boundary="a b"',
            'multipart/form-data;boundary = "a b" ; x=y',
        ):
            self.assertEqual(read_form(kind, form([("file", b"x")], "a b")), {"file": b"x"})
        body = b"--b \t\r\nX: 1\r\ncontent-disposition:form-data;filename=c;name=file\r\n\r\nx"
        body += b"\r\n--b--"
        self.assertEqual(read_form("multipart/form-data; boundary=b", body), {"file": b"x"})
        body = b"before\r\n" + form([("file", b"x")], "b") + b"after"
        self.assertEqual(read_form("multipart/form-data; boundary=b", body), {"file": b"x"})

    def test_parts_without_a_name_or_data(self) -> None:
        body = (
            b"--b\r\n\r\nnameless\r\n--b\r\nContent-Disposition: form-data; name=f\r\n\r\n\r\n--b--"
        )
        self.assertEqual(read_form("multipart/form-data; boundary=b", body), {"f": b""})
        self.assertEqual(split_form(b"b", b"--b--"), [])

    def test_boundary_lookalikes(self) -> None:
        data = b"\r\n------ESP32_CAMERA_BOUNDARYX\r\n----ESP32"
        self.assertEqual(read_form(self.kind, form([("f", data)])), {"f": data})

    def test_the_first_of_a_name_counts(self) -> None:
        self.assertEqual(read_form(self.kind, form([("f", b"1"), ("f", b"2")])), {"f": b"1"})

    def test_bad_forms(self) -> None:
        whole = form([("file", b"x")], "b")
        b = "multipart/form-data; boundary=b"
        for kind, body in (
            ("", whole),
            ("application/json", whole),
            ("multipart/form-data", whole),
            ("multipart/form-data; boundary=c", whole),
            (b, b""),
            (b, whole[:-6]),
            (b, b"--bX\r\n"),
            (b, b"--b\r\nno end of headers\r\n--b--"),
            (b, b"--b\r\n" + b"x" * 5000 + b"\r\n\r\n\r\n--b--"),
            (b, form([("f", b"")] * 17, "b")),
            (b, form([("f", b"\r\n--bX" * 1001)], "b")),
        ):
            error = self.assertRaises(ProtocolError, read_form, kind, body)
            assert isinstance(error, ProtocolError)
            self.assertEqual(error.code, "bad_form", (kind, body[:40]))

    @settings(max_examples=100)
    @given(st.dictionaries(st.text("abcXYZ", min_size=1), st.binary(max_size=300), max_size=8))
    def test_round_trip(self, fields: dict[str, bytes]) -> None:
        body = form(fields.items())
        self.assertEqual(read_form(self.kind, body), fields)

    @settings(max_examples=100)
    @given(st.lists(st.sampled_from([b"--b", b"\r\n", b"--", b"-", b": ", b"name=x;", b"q"])))
    def test_anything(self, pieces: list[bytes]) -> None:
        try:
            read_form("multipart/form-data; boundary=b", b"".join(pieces))
        except ProtocolError as error:
            self.assertEqual(error.code, "bad_form")
