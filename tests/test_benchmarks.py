"""The benchmarks measure what they say: the calls they invent are calls, an answer is whole when it is."""

import json
import sysconfig
from contextlib import closing

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.events import _messages
from benchmarks.load import FORM, post, whole
from benchmarks.measure import ROOT, Line
from benchmarks.profile import CUMULATIVE, OWN, named, text
from benchmarks.run import table
from benchmarks.start import write
from benchmarks.stories import on_record, said_by_the_switch
from plivotx.config import Config
from plivotx.log.schema import connect
from plivotx.log.sqlite import SQLiteLog
from plivotx.projections.call import channel_uuid, evolve
from plivotx.rest.forms import call_requested
from plivotx.server import carriable


class Inventions(TestCase):
    async def test_calls_in_the_log_are_open_or_closed_each_with_a_channel_of_its_own(self):
        begun, ended = on_record()
        path = self.mktemp()
        with closing(connect(path)) as connection:
            write(connection, ended, 3)
            write(connection, begun, 2)
        log = await SQLiteLog.open(path, reactor)
        self.addCleanup(log.close)
        _, streams = await log.open_streams()
        self.assertEqual((len(set(streams)), len(await log.calls())), (2, 5))
        for row in await log.calls():
            call = None
            for recorded in await log.read(row.stream):
                call = evolve(call, recorded.event)
            self.assertEqual(call.uuid, row.stream)
            self.assertEqual(call.attempt.channel, channel_uuid(row.stream, "A", 1))
            self.assertEqual((call.closed, row.open), (row.stream not in streams, row.stream in streams))
            self.assertEqual(call.up is not None, row.open)

    def test_the_switch_is_heard_from_the_ringing_to_the_end(self):
        messages = _messages(said_by_the_switch())
        names = [json.loads(each.partition(b"\n\n")[2])["Event-Name"] for each in messages]
        self.assertIn("CHANNEL_PROGRESS", names)
        self.assertEqual(names[-1], "CHANNEL_HANGUP_COMPLETE")

    def test_the_request_that_is_posted_is_one_that_is_accepted(self):
        call_requested(FORM, "1b4e28ba-2fa1-4d30-8f2c-1f2e3d4c5b6a", carriable(Config()))


class Load(SynchronousTestCase):
    def test_an_answer_is_whole_when_all_of_it_is_there(self):
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ):
            self.assertTrue(whole(answer))
            for length in range(len(answer)):
                self.assertFalse(whole(answer[:length]), answer[:length])

    def test_a_request_says_how_long_it_is(self):
        head, _, body = post({"From": "1 2"}).partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertEqual(body, b"From=1+2")


class Table(SynchronousTestCase):
    def test_has_a_row_for_each_line(self):
        rows = table([Line("this", "1/s", "that 2/s", "0.50", ">= 1")]).splitlines()
        self.assertEqual(
            rows[2].split(), ["|", "this", "|", "1/s", "|", "that", "2/s", "|", "0.50", "|", ">=", "1", "|"]
        )
        self.assertEqual(len({len(each) for each in rows}), 1)


class Profile(SynchronousTestCase):
    def test_names_files_as_they_are_named_everywhere(self):
        packages, library = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
        for function, name in (
            ((f"{ROOT}/plivotx/engine.py", 12, "due"), "plivotx/engine.py:12 due"),
            ((f"{packages}/twisted/web/http.py", 3, "write"), "twisted/web/http.py:3 write"),
            ((f"{library}/uuid.py", 139, "__init__"), "uuid.py:139 __init__"),
            (
                ("~", 0, "<built-in method __new__ of type object at 0x7f1a>"),
                "<built-in method __new__ of type object>",
            ),
        ):
            with self.subTest(function=function):
                self.assertEqual(named(function), name)

    def test_shows_what_takes_most_in_itself_and_with_what_it_calls_for_each_of_so_many(self):
        few = {("~", 0, "little"): (10, 0.1, 0.5), ("~", 0, "much"): (30, 0.4, 0.4)}
        own, _, everything = text("of calls", few, 10).partition("by all time")
        self.assertEqual(own.splitlines()[0], "of calls")
        rows = [[each.split() for each in half.splitlines()[-2:]] for half in (own.rstrip(), everything)]
        much, little = (
            ["3.00", "40,000.00", "40,000.00", "much"],
            ["1.00", "10,000.00", "50,000.00", "little"],
        )
        self.assertEqual(rows, [[much, little], [little, much]])

    def test_shows_only_the_first(self):
        many = {("~", 0, f"function{number}"): (1, 1.0, 1.0) for number in range(100)}
        self.assertEqual(text("of one", many, 1).count("function99"), 0)
        self.assertEqual(text("of one", many, 1).count(" function"), OWN + CUMULATIVE + 2)
