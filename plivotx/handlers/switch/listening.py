"""Listen to the switches: what they tell of our channels becomes facts, and channels that nobody has are ended."""

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.esl import dialstring, translate
from plivotx.esl.connections import Switch
from plivotx.esl.session import Headers, Reply
from plivotx.esl.translate import text
from plivotx.events import ChannelEnded, Event, JobFailed
from plivotx.handlers.switch.board import END_LAG, Board
from plivotx.handlers.switch.steps import Steps
from plivotx.handlers.switch.watching import Watching
from plivotx.log.interface import Unwritable
from plivotx.waiting import sleep

log = Logger()


class Listening:
    """Hears the events of all switches, and of each new connection."""

    def __init__(self, board: Board, steps: Steps, watching: Watching) -> None:
        self._board = board
        self._steps = steps
        self._watching = watching

    def event(self, switch: Switch, event: Headers) -> None:
        """Take an event of a channel or of a job of ours."""
        name = text(event, "Event-Name")
        if name == "BACKGROUND_JOB":
            self._job(switch, event)
            return
        channel = text(event, "Unique-ID")
        if not channel:
            return
        ended = name == "CHANNEL_HANGUP_COMPLETE"
        if not ended and self._board.is_over(channel):
            self._orphan(switch, channel, event)
            return
        if channel in self._board.watched:
            self._watching.seen(channel)
            if name == "CHANNEL_PARK":
                self._steps.parked(channel)
        if name == "CHANNEL_EXECUTE_COMPLETE":
            self._steps.heard(channel, event)
        fact = translate.fact(event, self._board.config.extra_fs_vars)
        if self._board.engine.channels.stream(channel) is None:
            if text(event, "variable_plivo_app") == "true":
                self._board.aside_do(self._board.forget(switch, channel))
        elif fact is not None:
            told = self._board.engine.tell(channel, fact)
            if isinstance(fact, ChannelEnded):
                told.addCallback(lambda _: self._board.aside_do(self._board.forget(switch, channel)))
            told.addErrback(self._untold, switch)
        if ended:
            self._watching.gone(channel)

    def _untold(self, failure: Failure, switch: Switch) -> None:
        """A fact that could not be written counts as a lost connection: reconnect and compare."""
        switch.lose(f"a fact could not be recorded: {failure.getErrorMessage()}")

    def _job(self, switch: Switch, event: Headers) -> None:
        """An originate has come to its result."""
        channel = text(event, "Job-UUID")
        if self._board.engine.channels.stream(channel) is None:
            return
        reply = Reply(text(event, "_body"))
        if reply.ok:
            other = reply.text.removeprefix("+OK").strip()
            if other and other != channel:
                log.error("{channel} was dialled as {other}; hanging that up", channel=channel, other=other)
                self._board.aside_do(self._board.kill(switch, other))
            return
        self._board.aside_do(self._job_failed(switch, channel, reply.error or reply.text.strip() or "NONE"))

    async def _job_failed(self, switch: Switch, channel: str, cause: str) -> None:
        """A failed job counts only if there is no such channel; the channel's own end goes before it."""
        if self._watching.has_seen(channel) and await self._watching.end(channel, END_LAG):
            return
        if self._board.is_over(channel):
            return
        if (await switch.api(f"uuid_exists {channel}")).text.strip() == "true":
            log.error(
                "the job of {channel} failed ({cause}) and the channel lives", channel=channel, cause=cause
            )
            return
        fact: Event = JobFailed(channel=channel, cause=cause.partition("\n")[0])
        kept = dialstring.parse_kept((await switch.api(dialstring.kept(channel))).text)
        if kept is not None:
            end = translate.from_kept(channel, kept)
            if end.rang_at or end.answered_at:
                fact = end  # it rang, and no event told us
        try:
            await self._board.engine.tell(channel, fact)
        except Unwritable as error:
            self._untold(Failure(error), switch)
            return
        await sleep(self._board.clock, END_LAG)  # the channel may leave its line behind a little later
        await self._board.forget(switch, channel)

    def _orphan(self, switch: Switch, channel: str, event: Headers) -> None:
        """A channel with our mark and no open call: nobody would ever hang it up."""
        if text(event, "variable_plivo_app") == "true" and text(event, "Answer-State") != "hangup":
            log.error("channel {channel} belongs to no open call; hanging it up", channel=channel)
            self._board.aside_do(self._end_orphan(switch, channel))

    async def _end_orphan(self, switch: Switch, channel: str) -> None:
        """Hang it up; what it leaves behind is deleted even if the event of its end gets lost."""
        await self._board.kill(switch, channel)
        await sleep(self._board.clock, END_LAG)
        await self._board.forget(switch, channel)

    def up(self, switch: Switch) -> None:
        """Take it that a switch is connected."""
        self._board.coming.wake_all()
        self._board.aside_do(self._sweep(switch))

    async def _sweep(self, switch: Switch) -> None:
        """After a new connection: hang up orphans, delete what ended channels of closed calls left."""
        shown = await switch.api("show channels as json")
        for channel in _shown(shown.text):
            if self._board.engine.channels.stream(channel) is None:
                mark = await switch.api(f"uuid_getvar {channel} plivo_app")
                if mark.text.strip() == "true" and self._board.engine.channels.stream(channel) is None:
                    log.error("channel {channel} belongs to no open call; hanging it up", channel=channel)
                    await self._board.kill(switch, channel)
        dump = await switch.api("hash_dump db plivotx")
        for line in dump.text.splitlines():
            channel = line.partition("/plivotx_")[2].partition("/")[0]
            if channel and self._board.is_over(channel):
                await self._board.forget(switch, channel)


def _shown(listing: str) -> list[str]:
    """The UUIDs in the answer to `show channels as json` that may be ours."""
    try:
        rows = msgspec.json.decode(listing).get("rows", [])
    except (msgspec.DecodeError, AttributeError):
        return []
    uuids = [str(row.get("uuid", "")) for row in rows if isinstance(row, dict)]
    return [each for each in uuids if each[14:15] == "5"]
