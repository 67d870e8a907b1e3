"""What the bytes of a file say before a picture is decoded."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.container.h264 import H264
from encoder.container.kinds import HEAD_BYTES, demuxer_of
from encoder.container.tracks import Track, chosen
from encoder.container.wholeness import cut_short
from encoder.video.decoder import Decoder
from encoder.video.probe import probe
from index.errors import VideoRefused
from tests.conftest import DATA, EXPECTED
from tests.encoder.container import fields
from tests.encoder.video.awkward import picture, write
from tests.encoder.video.mutations import copy_of, remuxed

VIDEOS = DATA / "videos"
DEMUXERS = {".mp4": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi", ".mpg": "mpeg", ".ts": "mpegts"}
OK = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "ok")


def demuxer(name):
    return DEMUXERS.get("." + name.rpartition(".")[2], "asf")


@pytest.mark.parametrize("name", OK)
def test_a_container_is_known_by_its_beginning(name):
    assert demuxer_of((VIDEOS / name).read_bytes()[:HEAD_BYTES]) == demuxer(name)


@given(before=st.integers(0, 400), cut=st.integers(0, 20_000))
@pytest.mark.parametrize("name", ["h264.ts", "mpeg2_ps.mpg"])
def test_a_stream_is_known_wherever_it_begins(name, before, cut):
    data = (VIDEOS / name).read_bytes()[cut : cut + HEAD_BYTES]

    noise = np.random.default_rng(before).bytes(before)

    assert demuxer_of((noise + data)[:HEAD_BYTES]) == demuxer(name)


@given(st.binary(max_size=3000))
def test_noise_is_refused_or_taken_for_a_container_on_the_list(noise):
    try:
        kind = demuxer_of(noise)
    except VideoRefused:
        return
    assert kind in {*DEMUXERS.values(), "asf", "flv"}  # by the few bytes that stand where they should


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"DHAV\xfd\0\0\0" + bytes(200), r"Dahua recorder's file.*ffmpeg -i FILE -c copy"),
        (b"\0\0\0\1\x67\x4d\0\x28" + bytes(200), r"raw H\.264 stream.*ffmpeg -framerate 25 -f h264"),
        (b"\0\0\0\1\x40\1\x0c\1" + bytes(200), r"raw HEVC stream.*-f hevc"),
        (b"\0\0\1\xb3\x14\0\xf0" + bytes(200), r"raw MPEG video stream.*-f mpegvideo"),
        (b"0       X X X X" + b" " * 200, "an EDF recording of signals"),
        (b"PK\3\4" + bytes(200), "an archive"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "a still image, not a video; or JPEG pictures in a row"),
        (b"\0\0\0\1\x41\x9a" + bytes(200), r"raw H\.264 stream"),
        (b"\0\0\0\1\x06\5\1" + bytes(200), r"raw H\.264 stream"),
        (b"\0\0\1\xb0\1" + bytes(200), r"raw MPEG-4 stream.*-f m4v"),
        (b"\0\0\0\x18ftypheic" + bytes(200), "a still image"),
        (b"abc" + b"\0\0\0\x20ftypisom" + bytes(200), r"3 foreign bytes stand before the video: `tail -c \+4 FILE"),
    ],
)
def test_what_is_not_read_is_named_and_how_to_make_it_readable(head, reason):
    with pytest.raises(VideoRefused, match=reason):
        demuxer_of(head)


def test_flv_is_read(tmp_path):
    path = write(tmp_path / "x.flv", frames=range(50), container="flv")

    with Decoder(4, 32) as decoder:
        assert [clip.valid_seconds for clip in decoder.decode(path)] == [2.0]


LIVE = {"live": "1"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("x.mkv", {}), ("live.mkv", LIVE), ("live.webm", LIVE), ("x.mp4", {}), ("x.avi", {}), ("x.flv", {})),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ],
)
def test_a_file_cut_anywhere_in_its_pictures_is_cut(tmp_path, name, options):
    whole = tmp_path / name
    codecs = {"webm": {"codec": "libvpx", "options": {"b": "1M"}}, "avi": {"codec": "mpeg4", "options": {"b": "1M"}}}
    source = write(tmp_path / "source.mkv", frames=range(60), **codecs.get(name.rpartition(".")[2], {}))
    with av.open(str(source)) as given_, av.open(str(whole), "w", options=options) as out:
        stream = out.add_stream_from_template(given_.streams.video[0])
        for packet in [packet for packet in given_.demux(video=0) if packet.size]:
            packet.stream = stream
            out.mux(packet)
    data = whole.read_bytes()
    kind = demuxer_of(data[:HEAD_BYTES])
    assert cut_short(whole, kind) == ""
    with Decoder(4, 32) as decoder:
        assert len(list(decoder.decode(whole))) == 1
    inside = np.random.default_rng(0).integers(len(data) // 3, len(data) - 40, 30)

    for end in inside:
        (tmp_path / "cut").write_bytes(data[:end])
        try:
            damage = probe(tmp_path / "cut").damage
        except VideoRefused as refused:
            damage = str(refused)
        at_a_border = kind == "matroska" and options and cut_short(tmp_path / "cut", kind) == ""
        assert damage or at_a_border, end


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "h264_bframes_longgop.mkv", "mjpeg.avi", "vp9.webm", "h264.ts"])
def test_two_recordings_one_behind_the_other_are_not_taken_for_the_first(tmp_path, name):
    data = (VIDEOS / name).read_bytes()
    (tmp_path / "both").write_bytes(data + data)
    (tmp_path / "padded").write_bytes(data + bytes(4096))

    with Decoder(4, 32) as decoder:
        with pytest.raises(VideoRefused, match="several recordings in one file"):
            list(decoder.decode(tmp_path / "both"))
        whole = len(list(decoder.decode(VIDEOS / name)))
        assert len(list(decoder.decode(tmp_path / "padded"))) == whole


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "h264_bframes_longgop.mkv", "mjpeg.avi", "wmv2.wmv", "vp9.webm"])
@pytest.mark.parametrize("behind", [b"\n", b"TAG" + b"x" * 125, bytes(range(256))])
def test_what_stands_behind_a_whole_file_does_not_cut_it(tmp_path, name, behind):
    (tmp_path / "more").write_bytes((VIDEOS / name).read_bytes() + behind)

    with Decoder(0, 0) as decoder:
        assert decoder.count(tmp_path / "more") == decoder.count(VIDEOS / name)


@pytest.mark.parametrize("name", ["mjpeg.avi", "mpeg4_xvid.avi"])
def test_a_live_avi_that_was_not_finished_is_cut(tmp_path, name):
    data = bytearray((VIDEOS / name).read_bytes())
    for place in (4, data.find(b"movi") - 4, data.find(b"avih") + 24, data.find(b"strh") + 40):
        data[place : place + 4] = bytes(4)
    movi, index = data.find(b"movi"), data.rfind(b"idx1")
    (tmp_path / "live").write_bytes(data[:index])
    assert probe(tmp_path / "live").damage == ""

    for end in np.random.default_rng(0).integers(movi + 2000, index - 1, 20):
        (tmp_path / "live").write_bytes(data[:end])
        assert "cut" in probe(tmp_path / "live").damage


def test_a_wmv_is_as_long_as_its_header_says(tmp_path):
    data = (VIDEOS / "wmv2.wmv").read_bytes()
    for end in np.random.default_rng(0).integers(len(data) // 3, len(data) - 100, 20):
        (tmp_path / "cut.wmv").write_bytes(data[:end])
        with Decoder(0, 0) as decoder, pytest.raises(VideoRefused):
            decoder.count(tmp_path / "cut.wmv")


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["1", "1/2", "1/5"])
@pytest.mark.parametrize("start_s", [0, 5])
@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.webm", "x.asf", "x.flv", "x.ts"])
def test_slow_films_and_late_ones_are_whole(tmp_path, name, start_s, rate):
    """Some containers count their length from zero, some from the first picture; the last picture may have none."""
    codec = {"x.webm": "libvpx", "x.asf": "wmv2"}.get(name, "libx264")
    with av.open(str(tmp_path / name), "w", format="asf" if name == "x.asf" else None) as out:
        stream = out.add_stream(codec, rate=Fraction(rate), options={"preset": "ultrafast"} if "264" in codec else {})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format="yuv420p")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round((start_s + number / Fraction(rate)) * 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    with Decoder(0, 0) as decoder:
        assert decoder.count(tmp_path / name) == 20 / Fraction(rate) / 10


@pytest.mark.parametrize("cut_at", [2048 * 3, 5000, 2048 * 5, 14_321, 2048 * 8])
def test_a_program_stream_may_begin_anywhere(tmp_path, cut_at):
    path = write(tmp_path / "x.mpg", codec="mpeg2video", frames=range(300), options={"g": "12", "bf": "2", "b": "3M"})
    (tmp_path / "cut.mpg").write_bytes(path.read_bytes()[cut_at:])

    with Decoder(0, 0) as decoder:
        assert decoder.count(tmp_path / "cut.mpg") >= 1


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), 0),
        ((0, 1, -1, 0), 270),
        ((-1, 0, 0, -1), 180),
        ((0, 0, 0, 0), 0),
        ((-1, 0, 0, 1), None),
        ((1, 0, 0, -1), None),
        ((0, 1, 1, 0), None),
        ((0.7071, 0.7071, -0.7071, 0.7071), None),
    ],
)
def test_a_display_matrix_turns_by_right_angles_or_is_refused(tmp_path, matrix, turned):
    data = bytearray(write(tmp_path / "x.mp4", frames=range(50)).read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    place = data.find(b"tkhd") + 4 + 40
    data[place : place + 20] = struct.pack(">5i", a, b, 0, c, d)
    (tmp_path / "x.mp4").write_bytes(data)

    if turned is None:
        with pytest.raises(VideoRefused, match="mirrored, or turned by an angle"):
            probe(tmp_path / "x.mp4")
    else:
        assert probe(tmp_path / "x.mp4").rotation == turned


def second_fields(packets, extradata=b""):
    coded = H264(extradata)
    return [coded.look(packet).second_field for packet in packets]


@pytest.mark.parametrize("scaling", [False, True])
def test_fields_are_paired_however_the_sequence_is_described(scaling):
    greys = [np.full((fields.HEIGHT, fields.WIDTH), 99)] * 20
    packets = [unit for both in fields.pictures(greys) for unit in both]
    packets[0] = packets[0].replace(fields.sequence(), fields.sequence(scaling))

    assert second_fields(packets) == [False, True] * 20


def test_a_field_without_its_other_one_is_a_picture_of_its_own():
    greys = [np.full((fields.HEIGHT, fields.WIDTH), 99)] * 4
    packets = [unit for both in fields.pictures(greys) for unit in both]
    del packets[3]

    assert second_fields(packets) == [False, True, False, False, True, False, True]


@pytest.mark.parametrize("name", [name for name in OK if name.startswith("h264")])
def test_whole_pictures_have_no_second_field_and_stand_in_order(name):
    with av.open(str(VIDEOS / name)) as container:
        film = container.streams.video[0]
        coded = H264(film.codec_context.extradata or b"")
        assert {coded.look(bytes(packet)) for packet in container.demux(film) if packet.size} == {coded.look(b"")}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bits_stop_the_reader_of_slice_headers(extradata, packet):
    H264(extradata).look(packet)
    H264(b"\1" + extradata).look(packet)
    H264(fields.sequence()).look(b"\0\0\1\x65" + packet)


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "h264_bframes_longgop.mkv", "mpeg2_ps.mpg"])
def test_a_lost_picture_that_others_build_on_is_noticed(tmp_path, name):
    """A decoder builds the next one on another picture, and reports no error."""

    def drop(number, packet):
        return [] if number in range(301, 304) else [copy_of(packet)]

    path = remuxed(VIDEOS / name, tmp_path / f"lost.{name.rpartition('.')[2]}", drop)

    with Decoder(4, 32) as decoder, pytest.raises(VideoRefused) as refused:
        list(decoder.decode(path))
    assert refused.value.damaged


SMALL = Track(0, "mjpeg", 64, 48, 20, 20, beside=False)
FILM = Track(1, "h264", 1920, 1080, 500, 20, beside=False)
OTHER = Track(2, "h264", 1280, 720, 500, 20, beside=False)
COVER = Track(3, "mjpeg", 1920, 1080, 1, 0, beside=True)


@pytest.mark.parametrize(
    ("tracks", "wanted", "found"),
    [
        ([SMALL, FILM], None, FILM),
        ([FILM, COVER], None, FILM),
        ([COVER, SMALL, OTHER], None, OTHER),
        ([SMALL], None, SMALL),
        ([FILM, OTHER], 2, OTHER),
        ([SMALL, FILM], 0, SMALL),
    ],
)
def test_the_film_is_the_track_that_is_no_picture_beside_it(tracks, wanted, found):
    assert chosen(tracks, wanted) == found


@pytest.mark.parametrize(
    ("tracks", "wanted", "reason"),
    [
        ([FILM, OTHER], None, r"2 films in one file.*column track \(track 1: h264, 1920 x 1080, 500 pictures; track 2"),
        ([FILM], 7, "no video track 7 in this file: the video tracks are track 1"),
        ([FILM, Track(2, "h264", 640, 360, 140, 20, beside=False)], None, "2 films in one file"),
        ([FILM, Track(2, "h264", 640, 360, 100, 4, beside=False)], None, "2 films in one file"),
        ([], None, "no video stream"),
        ([COVER], None, "no video stream"),
        ([Track(0, "prores", 64, 48, 20, 20, beside=False)], None, "codec prores is not allowed"),
    ],
)
def test_what_can_be_chosen_in_two_ways_is_refused(tracks, wanted, reason):
    with pytest.raises(VideoRefused, match=reason):
        chosen(tracks, wanted)


def test_five_frames_that_claim_a_day_cost_nothing(tmp_path):
    path = write(tmp_path / "x.mp4", frames=range(5))
    day = remuxed(path, tmp_path / "day.mp4", lambda n, packet: [copy_of(packet, 6 * 3600 * n)])

    with Decoder(0, 0) as decoder, pytest.raises(VideoRefused, match=r"no picture for 21600\.0 s, 0\.0 s in"):
        list(decoder.decode(day))


def test_a_picture_a_second_for_three_days_is_too_long(tmp_path):
    path = write(tmp_path / "x.mp4", codec="mpeg4", frames=range(1000, 1030))
    long = tmp_path / "long.mkv"
    packets = []

    def again(number, packet):
        packets.append(copy_of(packet))
        return [] if number < 29 else [copy_of(packets[n % 30], 9 * n) for n in range(30_000)]

    with av.open(str(remuxed(path, long, again))) as container:
        assert container.duration / 1e6 > 48 * 3600

    with Decoder(0, 0) as decoder, pytest.raises(VideoRefused, match="longer than 48 hours"):
        list(decoder.decode(long))


def test_a_cover_picture_is_no_film(tmp_path):
    path = write(tmp_path / "x.mkv", frames=range(50))
    covered = tmp_path / "covered.mp4"
    with av.open(str(path)) as given_, av.open(str(covered), "w") as out:
        stream = out.add_stream_from_template(given_.streams.video[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in cover.encode(av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8), format="rgb24")):
            out.mux(packet)
        for packet in [packet for packet in given_.demux(video=0) if packet.size]:
            packet.stream = stream
            out.mux(packet)

    facts = probe(covered)

    assert (facts.width, facts.height, len(facts.timeline.ticks)) == (320, 240, 50)
