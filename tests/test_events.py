"""What is written can be read: today's events by today's code, a newer version's as far as possible."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx import events
from plivotx.events import (
    BY_NAME,
    COLUMNS,
    ChannelRang,
    Decision,
    Event,
    Unknown,
    decode,
    decode_all,
    encode,
)
from plivotx.states import STATES
from tests.strategies import EVENTS, any_event, known_events

NOT_ON_DISK = {Event, Decision, Unknown}


class EventTests(SynchronousTestCase):
    def test_every_class_can_be_decoded_and_has_a_strategy(self) -> None:
        there = {
            each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)
        } - NOT_ON_DISK
        self.assertEqual(there, set(BY_NAME.values()))
        self.assertEqual(there, set(EVENTS))
        self.assertEqual(set(BY_NAME), {each.__name__ for each in there})

    @given(any_event)
    def test_what_is_written_is_read_back(self, event: Event) -> None:
        self.assertEqual(decode(encode(event)), event)

    @given(any_event)
    def test_the_type_stands_in_the_text(self, event: Event) -> None:
        name = event.type if isinstance(event, Unknown) else type(event).__name__
        self.assertEqual(msgspec.json.decode(encode(event))["type"], name)

    @given(any_event)
    def test_columns_are_those_of_the_read_model(self, event: Event) -> None:
        types = {"TEXT": str, "INTEGER": int}
        for name, value in event.columns().items():
            self.assertIs(type(value), types[COLUMNS[name]], name)
        self.assertEqual(bool(event.columns()), event.rank > 0)
        self.assertIn(event.columns().get("state", STATES[0]), STATES)

    @given(any_event, st.text(), st.recursive(st.none() | st.text() | st.integers(0, 9), st.lists))
    def test_fields_of_a_newer_version_do_no_harm(self, event: Event, name: str, value: object) -> None:
        newer = msgspec.json.encode({f"newer-{name}": value, **msgspec.json.decode(encode(event))})
        if isinstance(event, Unknown):
            event = Unknown(type=event.type, data=newer)
        self.assertEqual(decode(newer), event)

    def test_an_event_of_an_unknown_type_is_kept_as_it_is(self) -> None:
        text = b'{ "type": "CallTransferred", "to": "\xc3\xa9",   "deep": [{"x": null}] }'
        event = decode(text)
        self.assertEqual(event, Unknown(type="CallTransferred", data=text))
        self.assertEqual(encode(event), text)
        self.assertEqual((event.rank, event.columns(), event.opens, event.closes), (0, {}, False, False))

    @given(st.lists(known_events))
    def test_events_are_read_all_at_once_as_they_are_one_by_one(self, events: list[Event]) -> None:
        texts = [encode(each) for each in events]
        self.assertEqual(decode_all(b"[" + b",".join(texts) + b"]"), [decode(each) for each in texts])

    def test_all_at_once_an_unknown_or_a_damaged_event_is_an_error(self) -> None:
        for text in (b'{"type":"CallTransferred"}', b'{"type":"ChannelRang","at":1}', b"", b"{"):
            with self.assertRaises(ValueError):
                decode_all(b'[{"type":"HangupRequested","cause":"NONE"},' + text + b"]")

    def test_a_missing_field_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "channel"):
            decode(b'{"type":"ChannelRang","at":1}')

    def test_a_field_of_the_wrong_kind_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "at"):
            decode(b'{"type":"ChannelRang","channel":"c","at":"soon"}')

    def test_what_is_no_event_is_an_error(self) -> None:
        for text in (b"", b"{", b"[]", b"null", b'{"to":"2"}', b'{"type":5}', b'"\xff"'):
            with self.assertRaises(ValueError):
                decode(text)

    def test_a_field_with_a_default_may_be_missing(self) -> None:
        self.assertEqual(
            decode(b'{"type":"ChannelRang","channel":"c","at":1}'),
            ChannelRang(channel="c", at=1, early_media=False),
        )

    def test_an_event_is_frozen(self) -> None:
        with self.assertRaises(AttributeError):
            ChannelRang(channel="c", at=1).at = 2

    def test_decisions_are_no_facts(self) -> None:
        for each in BY_NAME.values():
            self.assertEqual(each.fact, not issubclass(each, Decision), each)
