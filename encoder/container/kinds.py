"""Which container a file is, by its first kilobytes; of kinds that are not read, how to make a readable file."""

from __future__ import annotations

import re

from index.errors import VideoRefused

HEAD_BYTES = 64 * 1024
"""How much of a file decides."""
EXPECTED = "MP4, MOV, MKV, WebM, AVI, FLV, MPEG-PS, MPEG-TS, ASF or WMV"

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid", b"styp", b"sidx", b"moof", b"udta")
_STILL_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
_MATROSKA = b"\x1a\x45\xdf\xa3"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_PACK = re.compile(rb"\x00\x00\x01\xba(?:[\x44-\x7f].{9}|[\x20-\x2f].{7})\xff*\x00\x00\x01[\xb9-\xff]", re.DOTALL)
"""A pack header of MPEG-2 or MPEG-1, and the start code that follows it."""
_LEAST_PACKETS = 5
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"[playlist]", b"<?xml", b"<smil", b"<MPD")
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf\x27\x1c")
_COPY = "`ffmpeg -i FILE -c copy FILE.mkv` makes a readable file of it"
_TRANSCODE = "`ffmpeg -i FILE -c:v libx264 -crf 18 FILE.mp4` makes a readable file of it"
_OTHERS = (
    (b"DHAV", "a Dahua recorder's file (.dav)", _COPY),
    (b"\x06\x0e\x2b\x34", "an MXF file", _TRANSCODE),
    (b"OggS", "an Ogg file", _TRANSCODE),
    (b".RMF", "a RealMedia file", _TRANSCODE),
    (b"DKIF", "an IVF file", _COPY),
    (b"YUV4MPEG2", "raw pictures (Y4M)", _TRANSCODE),
    (b"\x1f\x07\x00", "a raw DV stream", "`ffmpeg -f dv -i FILE -c copy FILE.mkv` makes a readable file of it"),
    (bytes.fromhex("b7d800203749da11"), "a Windows TV recording (WTV)", _COPY),
    (b"IMKH", "a Hikvision recorder's file", _COPY),
    (b"0       ", "an EDF recording of signals, not a video", "list the video that was recorded with it"),
)
_RAW = "a raw {} stream without timestamps"
_RAW_ADVICE = (
    "`ffmpeg -framerate 25 -f {} -i FILE -c:v libx264 -crf 18 FILE.mp4` makes a readable file of it, with the camera's "
    "own rate in place of 25"
)


def demuxer_of(head: bytes) -> str:
    """FFmpeg's demuxer for a file that begins with these bytes (`HEAD_BYTES` where the file has them).

    Transport and program streams may begin anywhere, as recorders cut them: their sync is looked for.

    Raises:
        VideoRefused: If the bytes are of no container on the list.
    """
    if not head:
        raise VideoRefused("empty file")
    if kind := _at_the_beginning(head) or _of_a_stream(head):
        return kind
    if head.startswith(_IMAGES):
        raise VideoRefused(
            "a still image, not a video; or JPEG pictures in a row: `ffmpeg -framerate 25 -f mjpeg -i FILE -c copy "
            "FILE.mkv` makes a readable file of them, with the camera's own rate in place of 25"
        )
    if head.lstrip().startswith(_PLAYLISTS):
        raise VideoRefused("a playlist, not a video: it would open other files or addresses")
    if head.startswith(_ARCHIVES):
        raise VideoRefused("an archive, not a video: unpack it first")
    for magic, name, advice in _OTHERS:
        if head.startswith(magic):
            raise VideoRefused(f"{name}: {advice}")
    if codec := _raw_codec(head):
        name = {"h264": "H.264", "hevc": "HEVC", "mpegvideo": "MPEG video", "m4v": "MPEG-4"}[codec]
        raise VideoRefused(f"{_RAW.format(name)}: {_RAW_ADVICE.format(codec)}")
    if before := _foreign_bytes(head):
        raise VideoRefused(
            f"{before} foreign bytes stand before the video: `tail -c +{before + 1} FILE > CLEANED` removes them"
        )
    raise VideoRefused(f"not a media container: expected {EXPECTED}")


def packet_size(head: bytes) -> tuple[int, int] | None:
    """Bytes of an MPEG transport stream's packet, and where the first whole one begins; None for anything else."""
    for size, before in ((188, 0), (192, 4), (204, 0)):
        for start in range(before, min(size + before, len(head))):
            syncs = head[start::size]
            if len(syncs) >= _LEAST_PACKETS and syncs.count(0x47) == len(syncs):
                return size, start - before
    for size, before in ((188, 0), (192, 4), (204, 0)):  # something else stands before it
        needed = _LEAST_PACKETS * 4
        run = re.compile(rb"(?:\x47.{%d}){%d}" % (size - 1, needed), re.DOTALL)
        if found := run.search(head):
            return size, max(found.start() - before, 0)
    return None


def _at_the_beginning(head: bytes) -> str:
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        raise VideoRefused("a still image, not a video")
    if head[4:8] in _BOXES:
        return "mov"
    if head.startswith(_MATROSKA):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(_ASF):
        return "asf"
    if head.startswith(b"FLV\x01"):
        return "flv"
    return "mpeg" if _PACK.match(head) else ""


def _of_a_stream(head: bytes) -> str:
    if packet_size(head):
        return "mpegts"
    return "mpeg" if _PACK.search(head) else ""


def _raw_codec(head: bytes) -> str:
    """FFmpeg's demuxer of an elementary stream, or empty."""
    start = re.match(rb"\x00{2,8}\x01(.)", head, re.DOTALL)
    if not start:
        return ""
    first = start[1][0]
    if first == 0xB3:
        return "mpegvideo"
    if first in {0xB0, 0xB5, 0xB6}:
        return "m4v"
    if first in {0x40, 0x42, 0x44, 0x46, 0x4E}:  # parameter sets, a delimiter, a message
        return "hevc"
    return "h264" if first < 0x80 and first & 0x1F in {1, 5, 6, 7, 9} else ""


def _foreign_bytes(head: bytes) -> int:
    """How many bytes stand before the beginning of a container that must begin the file; 0 where none is found."""
    places = [head.find(magic) for magic in (_MATROSKA, _ASF, b"FLV\x01\x05", b"FLV\x01\x01")]
    if (box := head.find(b"ftyp")) >= 4:
        places.append(box - 4)
    if riff := re.search(rb"RIFF.{4}AVI LIST", head, re.DOTALL):
        places.append(riff.start())
    return min((place for place in places if place > 0), default=0)
