"""Bytes to frames: whole, in pieces, byte by byte, recorded, mutated and random."""

import random
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.esl import frames
from plivotx.esl.frames import Frame, FrameReader, PeerError
from tests.transcripts import load, needs_transcripts, transcripts

BYTEWISE = 60_000
"""So much of each connection of each recording is read byte by byte."""


@cache
def received() -> dict[tuple[str, str], bytes]:
    """Return what FreeSWITCH wrote on every connection of every recording, by recording and peer."""
    wires: dict[tuple[str, str], bytearray] = {}
    for name in transcripts():
        for line in load(name):
            if line.dir == "recv":
                wires.setdefault((name, line.peer), bytearray()).extend(line.data)
    return {key: bytes(wire) for key, wire in wires.items()}


def read(*pieces: bytes) -> list[Frame]:
    """Return the frames of a stream that came in *pieces*."""
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def cut(wire: bytes, at: list[int]) -> list[bytes]:
    """Return *wire* cut at these places."""
    ends = sorted({min(each, len(wire)) for each in at} | {len(wire)})
    return [wire[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def outcome(*pieces: bytes) -> tuple[list[Frame], str]:
    """Return the frames of a stream up to its end or to its `PeerError`, and what that says."""
    reader, found = FrameReader(), []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append(frame)  # noqa: PERF402 - those before an error count
    except PeerError as why:
        return found, str(why)
    return found, ""


TWO = b"Content-Type: auth/request\n\nContent-Length: 5\nContent-Type: text/event-plain\n\nA: b\nContent-Type: api/response\n\n"


class Frames(SynchronousTestCase):
    def test_heads_and_bodies(self) -> None:
        first, second, third = read(TWO)
        self.assertEqual(first, Frame({"Content-Type": "auth/request"}))
        self.assertEqual(second.headers, {"Content-Length": "5", "Content-Type": "text/event-plain"})
        self.assertEqual(second.body, b"A: b\n")
        self.assertEqual(third.headers["Content-Type"], "api/response")

    def test_a_length_counts_bytes(self) -> None:
        body = "héllo €".encode()
        (frame,) = read(b"Content-Length: %d\n\n%s" % (len(body), body))
        self.assertEqual(frame.body, body)

    def test_a_caller_that_stops_early_gets_the_rest_later(self) -> None:
        reader = FrameReader()
        for frame in reader.feed(TWO):
            self.assertEqual(frame.headers["Content-Type"], "auth/request")
            break
        self.assertEqual([frame.body for frame in reader.feed(b"")], [b"A: b\n", b""])

    def test_what_is_fed_counts_though_nothing_was_fetched(self) -> None:
        reader = FrameReader()
        reader.feed(TWO[:40])
        reader.feed(TWO[40:60])
        self.assertEqual(list(reader.feed(TWO[60:])), read(TWO))

    def test_text_that_is_no_utf8_is_replaced_after_lines_are_split(self) -> None:
        (frame,) = read(b"Reply-Text: \xe2\nX-\xff: \xc3\n\n")
        self.assertEqual(frame.headers, {"Reply-Text": "\N{REPLACEMENT CHARACTER}", "X-\ufffd": "\ufffd"})

    def test_only_a_line_feed_ends_a_line(self) -> None:
        (frame,) = read("Reply-Text: a\r\x0b\x0c\x85\u2028b\n\n".encode())
        self.assertEqual(frame.headers, {"Reply-Text": "a\r\x0b\x0c\x85\u2028b"})

    def test_one_blank_after_the_colon_is_dropped_and_none_at_the_end(self) -> None:
        (frame,) = read(b"A:  b : c \nB:d\n\n")
        self.assertEqual(frame.headers, {"A": " b : c ", "B": "d"})

    def test_the_first_of_several_headers_counts(self) -> None:
        # recorded: out_getvar_odd, where a variable's line feed made a header of its own
        (frame,) = read(b"Content-Type: command/reply\nReply-Text: a\nContent-Type: auth/request\n\n")
        self.assertEqual(frame.headers["Content-Type"], "command/reply")


class BadFrames(SynchronousTestCase):
    def refused(self, wire: bytes) -> None:
        self.assertRaises(PeerError, read, wire)
        self.assertRaises(PeerError, read, *cut(wire, list(range(len(wire)))))

    def test_lengths(self) -> None:
        for length in (
            "-1",
            "+1",
            "",
            "1 ",
            "0x10",
            "1_0",
            "1.0",
            "1e3",
            "nan",
            "\u0663",
            "9" * 9,
            "9" * 30,
            "9" * 9000,
        ):
            self.refused(b"Content-Length: %s\n\n" % length.encode())

    def test_the_largest_body_allowed_is_awaited(self) -> None:
        self.assertEqual(read(b"Content-Length: %d\n\n" % frames.MAX_BODY_BYTES), [])
        self.refused(b"Content-Length: %d\n\n" % (frames.MAX_BODY_BYTES + 1))

    def test_heads(self) -> None:
        self.patch(frames, "MAX_HEAD_BYTES", 100)
        self.assertEqual(read(b"A: %s\n\n" % (b"x" * 97)), [Frame({"A": "x" * 97})])
        for wire in (b"A: %s\n\n" % (b"x" * 98), b"x" * 102, b"x" * 100 + b"\n" + b"x"):
            self.refused(wire)
        self.assertEqual(read(b"x" * 100 + b"\n"), [])

    def test_good_frames_before_the_bad_one_are_given_and_the_error_stays(self) -> None:
        reader, got = FrameReader(), []
        for _ in range(3):
            with self.assertRaises(PeerError):
                for frame in reader.feed(b"A: b\n\n" if not got else b"\n\nA: b\n\n"):
                    got.append(frame)  # noqa: PERF402 - those before an error count
                got.extend(reader.feed(b"Content-Length: x\n\nA: c\n\n"))
        self.assertEqual(got, [Frame({"A": "b"})])


@needs_transcripts
class Recorded(SynchronousTestCase):
    def test_all_is_read_to_the_last_byte(self) -> None:
        for key, wire in received().items():
            reader = FrameReader()
            found = list(reader.feed(wire))
            self.assertEqual((bytes(reader._buffer), reader._head), (b"", None), key)
            self.assertTrue(found or not wire, key)
            for frame in found:
                # the one message without a type is what a getvar of hostile text makes
                self.assertTrue(frame.headers.get("Content-Type") or key[0] == "out_getvar_odd", key)

    def test_byte_by_byte(self) -> None:
        for key, wire in received().items():
            start = wire[:BYTEWISE]
            self.assertEqual(read(*(start[i : i + 1] for i in range(len(start)))), read(start), key)

    @settings(max_examples=3, derandomize=True)
    @given(st.integers(0, 1 << 32), st.sampled_from([3, 20, 400]))
    def test_in_random_pieces(self, seed: int, pieces: int) -> None:
        dice = random.Random(seed)
        for key, wire in received().items():
            cuts = [dice.randrange(len(wire) + 1) for _ in range(pieces)]
            self.assertEqual(read(*cut(wire, cuts)), read(wire), key)

    @given(st.data())
    def test_mutated(self, data: st.DataObject) -> None:
        wire = bytearray(received()[data.draw(st.sampled_from(sorted(received())))][:20_000])
        for at, junk in data.draw(
            st.lists(
                st.tuples(st.integers(0, len(wire)), st.binary(max_size=4) | st.just(b"\n\n")), max_size=6
            )
        ):
            wire[at : at + len(junk)] = junk
        cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=20))
        self.assertEqual(outcome(*cut(bytes(wire), cuts)), outcome(bytes(wire)))


HEADISH = st.lists(
    st.sampled_from(
        [b"Content-Length", b":", b" ", b"3", b"-", b"\n", b"\n\n", b"\xff", b"abc", b"Content-Type"]
    )
    | st.binary(max_size=3),
    max_size=30,
).map(b"".join)


class AnyBytes(SynchronousTestCase):
    @given(st.binary(max_size=300) | HEADISH, st.lists(st.integers(0, 300), max_size=8))
    def test_only_peer_errors_and_the_same_in_any_pieces(self, wire: bytes, cuts: list[int]) -> None:
        self.assertEqual(outcome(*cut(wire, cuts)), outcome(wire))

    @given(
        st.lists(
            st.tuples(
                st.dictionaries(
                    st.from_regex(r"[A-Z][a-z-]{0,9}", fullmatch=True),
                    st.text("abc :é%", max_size=20),
                    max_size=4,
                ),
                st.binary(max_size=50),
            ),
            max_size=6,
        ),
        st.lists(st.integers(0, 500), max_size=8),
    )
    def test_what_was_written_is_read(
        self, messages: list[tuple[dict[str, str], bytes]], cuts: list[int]
    ) -> None:
        written = [Frame({"Content-Length": str(len(body)), **heads}, body) for heads, body in messages]
        wire = b"".join(
            "".join(f"{name}: {value}\n" for name, value in frame.headers.items()).encode()
            + b"\n"
            + frame.body
            for frame in written
        )
        self.assertEqual(read(*cut(wire, cuts)), written)


class Speed(SynchronousTestCase):
    def test_time_grows_with_the_number_of_bytes_only(self) -> None:
        # not measured by the clock: bytes searched for the end of a head
        class Counting(bytearray):
            looked = 0

            def find(self, what: bytes, start: int, end: int) -> int:
                Counting.looked += min(len(self), end) - start
                return super().find(what, start, end)

        reader = FrameReader()
        reader._buffer = Counting()
        wire = b"A: %s\nContent-Length: 9\n\n123456789" % (b"x" * 5000)
        for i in range(len(wire)):
            list(reader.feed(wire[i : i + 1]))
        self.assertLess(Counting.looked, 3 * len(wire))
