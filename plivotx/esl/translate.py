"""From FreeSWITCH's events to ours: only the named fields that plivotx uses are taken over."""

from collections.abc import Iterator, Sequence

from plivotx.esl.dialstring import Kept
from plivotx.esl.session import Headers
from plivotx.events import ChannelAnswered, ChannelEnded, ChannelRang, Event

CHANNEL_EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_PARK",
    "CHANNEL_EXECUTE_COMPLETE",
    "CHANNEL_HANGUP_COMPLETE",
)
"""What is subscribed to of our channels.  Only what `fact` knows is ever logged; the rest is passed on."""


def text(event: Headers, name: str) -> str:
    """One header as text; empty if it is not there.  An array gives its first element."""
    value = event.get(name, "")
    return value if isinstance(value, str) else (value[0] if value else "")


def number(event: Headers, name: str) -> int:
    """One header that holds a number, such as a time in microseconds; 0 if it is not there or is none."""
    value = text(event, name)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0


def now(event: Headers) -> int:
    """When FreeSWITCH made the event, on its own clock; 0 if it does not say."""
    return number(event, "Event-Date-Timestamp")


def fact(event: Headers, wanted: Sequence[str] = ()) -> Event | None:
    """What the event says of its channel (``Unique-ID``), if it is something to be recorded.

    *wanted* are the headers whose values are to be kept (EXTRA_FS_VARS).
    """
    channel = text(event, "Unique-ID")
    created = number(event, "Caller-Channel-Created-Time")
    variables = tuple((each, text(event, each)) for each in wanted)
    match text(event, "Event-Name"):
        case "CHANNEL_PROGRESS":
            return ChannelRang(channel=channel, at=now(event), created_at=created, variables=variables)
        case "CHANNEL_PROGRESS_MEDIA":
            return ChannelRang(
                channel=channel, at=now(event), early_media=True, created_at=created, variables=variables
            )
        case "CHANNEL_ANSWER":
            return ChannelAnswered(channel=channel, at=now(event), created_at=created, variables=variables)
        case "CHANNEL_HANGUP_COMPLETE":
            at, sip_code = now(event), text(event, "variable_sip_term_status")
            return ChannelEnded(
                channel=channel,
                cause=text(event, "Hangup-Cause") or "NONE",
                at=at,
                rang_at=rang_at(event),
                answered_at=_answered_at(number(event, "Caller-Channel-Answered-Time"), sip_code, at),
                sip_code=sip_code,
                sip_side=text(event, "variable_sip_hangup_disposition"),
                created_at=created,
                q850=number(event, "variable_hangup_cause_q850"),
                variables=variables,
            )
    return None


def _answered_at(told: int, sip_code: str, ended_at: int) -> int:
    """When the channel was answered, as FreeSWITCH told or as the SIP status of its end shows; 0 if it was not.

    A far end that hangs up a few milliseconds after its 200 is gone before FreeSWITCH takes the channel for answered:
    no CHANNEL_ANSWER comes and no time of it, but sip_term_status is 200 (seen on 1.10.12, two of 25 such calls).
    Somebody has answered, and no other gateway may be dialled.
    """
    return told or (ended_at if sip_code.startswith("2") else 0)


def rang_at(event: Headers) -> int:
    """When the channel first rang or gave early media; 0 if it has not.

    For a channel that gave early media the progress time stays 0 (recorded: orig_early_media).
    """
    rang = number(event, "Caller-Channel-Progress-Time")
    media = number(event, "Caller-Channel-Progress-Media-Time")
    return min(rang, media) if rang and media else rang or media


def from_dump(channel: str, dump: Headers, wanted: Sequence[str] = ()) -> Iterator[Event]:
    """What `uuid_dump` of a live channel says happened to it, whether its events were seen or not."""
    created = number(dump, "Caller-Channel-Created-Time")
    variables = tuple((each, text(dump, each)) for each in wanted)
    rang = rang_at(dump)
    answered = number(dump, "Caller-Channel-Answered-Time")
    if rang:
        early = not number(dump, "Caller-Channel-Progress-Time")
        yield ChannelRang(
            channel=channel, at=rang, early_media=early, created_at=created, variables=variables
        )
    if answered:
        yield ChannelAnswered(channel=channel, at=answered, created_at=created, variables=variables)


def from_kept(channel: str, kept: Kept) -> ChannelEnded:
    """The end of a channel, by the line that it left behind on the switch."""
    return ChannelEnded(
        channel=channel,
        cause=kept.cause,
        at=kept.ended_at,
        rang_at=min(filter(None, (kept.rang_at, kept.early_media_at)), default=0),
        answered_at=_answered_at(kept.answered_at, kept.sip_code, kept.ended_at),
        sip_code=kept.sip_code,
        sip_side=kept.sip_side,
        found="kept",
    )
