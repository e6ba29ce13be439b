"""Hypothesis strategies: one for each class of event, and streams of them.

Channels, keys and numbers come from small pools, so that the events of a stream meet each other.
"""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from plivotx import events

texts = st.text(max_size=20)
numbers = st.integers(0, 4)
versions = st.integers(1, 9)
seconds = st.integers(0, 2**31)
times = st.integers(0, 2**53)
"""Microseconds of the epoch; 0 where nobody knows."""
channels = st.sampled_from(("11111111-1111-5111-9111-111111111111", "c2", "c3", ""))
causes = st.sampled_from(("NORMAL_CLEARING", "USER_BUSY", "NO_ANSWER", "")) | texts
callback_keys = st.sampled_from(("ring", "hangup")) | texts
step_keys = st.builds("{}/{}/{}".format, numbers, numbers, numbers) | texts
urls = st.builds("http://app/{}".format, st.sampled_from(("ring", "answer", "hangup")))
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)

gateways = st.builds(
    events.Gateway,
    prefix=st.sampled_from(("sofia/gateway/one/", "user/")) | texts,
    timeout=st.integers(1, 120),
    tries=st.integers(1, 3),
    codecs=texts,
)

EVENTS: dict[type[events.Event], SearchStrategy[events.Event]] = {
    events.CallRequested: st.builds(
        events.CallRequested,
        request_uuid=texts,
        from_number=texts,
        to_number=texts,
        gateways=st.lists(gateways, min_size=1, max_size=3).map(tuple),
        answer_url=urls,
        hangup_url=urls,
        ring_url=urls | st.just(""),
        caller_name=texts,
        time_limit=st.none() | seconds,
        hangup_on_ring=st.none() | seconds,
        account_sid=texts,
        variables=pairs,
        send_digits=st.sampled_from(("", "1", "1w2@500")),
        send_on_preanswer=st.booleans(),
    ),
    events.ChannelRang: st.builds(
        events.ChannelRang,
        channel=channels,
        at=times,
        early_media=st.booleans(),
        created_at=times,
        variables=pairs,
    ),
    events.ChannelAnswered: st.builds(
        events.ChannelAnswered, channel=channels, at=times, created_at=times, variables=pairs
    ),
    events.ChannelEnded: st.builds(
        events.ChannelEnded,
        channel=channels,
        cause=causes,
        at=times,
        rang_at=times,
        answered_at=times,
        sip_code=st.sampled_from(("", "200", "486")),
        sip_side=st.sampled_from(("", "recv_refuse", "send_bye")),
        found=st.sampled_from(("event", "kept", "missing", "restart")),
        created_at=times,
        q850=st.sampled_from((0, 16, 17, 602)),
        variables=pairs,
    ),
    events.JobFailed: st.builds(events.JobFailed, channel=channels, cause=causes, dialled=st.booleans()),
    events.StepEnded: st.builds(
        events.StepEnded, key=step_keys, result=pairs, failed=texts, stopped=st.booleans(), cut=st.booleans()
    ),
    events.DocumentFetched: st.builds(events.DocumentFetched, number=numbers, body=st.text(max_size=200)),
    events.DocumentFailed: st.builds(
        events.DocumentFailed, number=numbers, attempt=versions, why=texts, final=st.booleans()
    ),
    events.CallbackDelivered: st.builds(
        events.CallbackDelivered, key=callback_keys, attempt=versions, status=st.integers(200, 299)
    ),
    events.CallbackFailed: st.builds(events.CallbackFailed, key=callback_keys, attempt=versions, why=texts),
    events.AttemptStarted: st.builds(
        events.AttemptStarted, number=versions, gateway=texts, channel=channels, switch=texts, core=texts
    ),
    events.AttemptSkipped: st.builds(events.AttemptSkipped, number=versions, gateway=texts, why=texts),
    events.AttemptFailed: st.builds(events.AttemptFailed, channel=channels, cause=causes, why=texts),
    events.LimitReached: st.builds(
        events.LimitReached, limit=st.sampled_from(("HangupOnRing", "TimeLimit")), cause=causes
    ),
    events.HangupRequested: st.builds(events.HangupRequested, cause=causes),
    events.CallbackOwed: st.builds(
        events.CallbackOwed,
        key=callback_keys,
        url=urls,
        method=st.sampled_from(("GET", "POST")),
        params=pairs,
    ),
    events.CallbackGivenUp: st.builds(events.CallbackGivenUp, key=callback_keys, why=texts),
    events.CallbackRenewed: st.builds(
        events.CallbackRenewed, key=callback_keys, renewal=st.integers(1, 100), live=st.booleans()
    ),
    events.StepStarted: st.builds(
        events.StepStarted,
        key=step_keys,
        digest=texts,
        kind=st.sampled_from(("execute", "api", "tell")) | texts,
    ),
    events.VerbEnded: st.builds(events.VerbEnded, document=numbers, verb=numbers, name=texts),
    events.VerbRound: st.builds(events.VerbRound, document=numbers, verb=numbers, steps=numbers),
    events.Redirected: st.builds(
        events.Redirected,
        document=numbers,
        url=urls,
        method=st.sampled_from(("GET", "POST")),
        params=pairs,
    ),
    events.VerbAbandoned: st.builds(events.VerbAbandoned, document=numbers, verb=numbers, why=texts),
    events.ScriptEnded: st.builds(events.ScriptEnded, cause=causes, why=texts, fault=st.booleans()),
    events.CallEnded: st.builds(events.CallEnded, cause=causes, call_uuid=channels, at=times),
    events.CallClosed: st.builds(events.CallClosed, undelivered=numbers, renewal=st.integers(0, 100)),
}

known_events = st.one_of(*EVENTS.values())
unknown_events = st.builds(
    lambda number: events.decode(b'{"type":"OfANewerVersion","number":%d}' % number), numbers
)
any_event = known_events | unknown_events

batches = st.lists(any_event, max_size=4)
"""What one append adds to a stream."""

streams = st.lists(any_event, max_size=30)
"""Any events in any order: what a fold must bear."""

call_streams = st.builds(lambda first, rest: [first, *rest], EVENTS[events.CallRequested], streams)
"""A stream that begins as every outgoing call does, and goes on in any way at all."""
