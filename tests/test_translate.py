"""What FreeSWITCH's events and the lines that it keeps say of a channel, as facts."""

from twisted.trial.unittest import SynchronousTestCase

from plivotx.commands import Decide
from plivotx.config import Config
from plivotx.esl.dialstring import Kept
from plivotx.esl.translate import fact, from_kept
from plivotx.events import AttemptFailed, AttemptStarted, CallEnded, CallRequested, ChannelEnded, Gateway
from plivotx.policies.dial_out import dial_out
from plivotx.projections.call import evolve

STREAM = "1b4e28ba-2fa1-4d30-8f2c-1f2e3d4c5b6a"
CHANNEL = "f723af8c-dbc3-5674-85bb-467a4376ef86"
REQUEST = CallRequested(
    request_uuid=STREAM,
    from_number="1",
    to_number="2",
    gateways=(Gateway(prefix="first/"), Gateway(prefix="second/")),
    answer_url="http://a/",
    hangup_url="http://a/",
)
ENDED_AT = 1795536053074322


def end(status: str, answered: int = 0) -> ChannelEnded:
    """The fact of an end, with SIP status and time of the answer as FreeSWITCH gave them."""
    told = fact(
        {
            "Event-Name": "CHANNEL_HANGUP_COMPLETE",
            "Unique-ID": CHANNEL,
            "Event-Date-Timestamp": str(ENDED_AT),
            "Hangup-Cause": "NORMAL_CLEARING",
            "Caller-Channel-Answered-Time": str(answered),
            "variable_sip_term_status": status,
        }
    )
    assert isinstance(told, ChannelEnded)
    return told


class AnAnswerThatFreeSwitchHasNotNoticed(SynchronousTestCase):
    """Its far end sent 200 and BYE within a few milliseconds; seen on FreeSWITCH 1.10.12."""

    def test_shows_in_the_sip_status_of_the_end(self) -> None:
        self.assertEqual(end("200").answered_at, ENDED_AT)
        self.assertEqual(end("200", answered=7).answered_at, 7)
        for status in ("", "486", "503"):
            self.assertEqual(end(status).answered_at, 0)

    def test_shows_in_the_line_that_the_channel_left(self) -> None:
        for status, answered in (("200", ENDED_AT), ("486", 0), ("", 0)):
            kept = Kept("NORMAL_CLEARING", ended_at=ENDED_AT, sip_code=status)
            self.assertEqual(from_kept(CHANNEL, kept).answered_at, answered)

    def test_has_no_other_gateway_dialled(self) -> None:
        started = AttemptStarted(number=1, gateway="first/", channel=CHANNEL, switch="s", core="x")

        def following(ended: ChannelEnded) -> list[object]:
            call = None
            for event in (REQUEST, started, ended):
                call = evolve(call, event)
            assert call is not None
            return [
                each.event if isinstance(each, Decide) else type(each) for each in dial_out(Config())(call)
            ]

        self.assertEqual(
            following(end("200")), [CallEnded(cause="NORMAL_CLEARING", call_uuid=CHANNEL, at=ENDED_AT)]
        )
        (failed,) = following(
            end("503")
        )  # as it would be if nobody had answered: then the second one is dialled
        self.assertIsInstance(failed, AttemptFailed)
