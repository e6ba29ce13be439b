"""All that can be told to be done.

A command is a frozen value with a stable key: asking twice what is due gives the same keys, so the
engine knows what is running already.  `Decide` is the one command that does nothing in the world: its
event is appended with an expected version.
"""

import msgspec

from plivotx.events import Event, Gateway, Pairs


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done for one call."""

    stream: str
    """The call it is done for."""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this command from the others; the same each time it is found due."""
        raise NotImplementedError


class Decide(Command, frozen=True, kw_only=True):
    """Record a decision.  Decisions that follow from each other go into the log in one batch."""

    event: Event

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "decide")


class Originate(Command, frozen=True, kw_only=True):
    """Dial one attempt: record that it starts, then write the originate command once."""

    number: int
    gateway: Gateway
    channel: str
    to_number: str
    caller_id_number: str
    caller_id_name: str
    ring_backstop: tuple[int, str] | None
    """Seconds from the first ring or early media and the cause; the switch itself keeps it."""
    answer_backstop: tuple[int, str]
    """Seconds from the answer and the cause; the switch itself keeps it."""
    progress_timeout: int = 0
    """Seconds to the first ring, early media or answer; 0 for no such limit."""
    send_digits: str = ""
    early_digits: bool = False
    """Whether these are sent in early media already."""
    early_margin: int = 5
    """Seconds by which the switch's own limit of the ringing comes after ours, which there is only then."""
    variables: Pairs = ()
    allowed: tuple[str, ...] = ()
    """Names among *variables* that the operator allows although they execute something or lead elsewhere."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "originate", self.channel)


class Watch(Command, frozen=True, kw_only=True):
    """See to it that the end of a channel is noticed, whatever was missed of it."""

    channel: str
    switch: str
    core: str
    backstop: int
    """Seconds from the answer after which the switch ends the call by itself."""
    cause: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "watch", self.channel)


class At(Command, frozen=True, kw_only=True):
    """Record that a limit is reached, once the clock of the switch shows *when*."""

    switch: str
    when: int
    """Microseconds, on the clock of the switch."""
    limit: str
    cause: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "at", self.limit, str(self.when))


class HangUp(Command, frozen=True, kw_only=True):
    """End a channel."""

    channel: str
    switch: str
    cause: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "hangup", self.channel)


class PostCallback(Command, frozen=True, kw_only=True):
    """Tell the application something; one try."""

    delivery: str
    """Key of the callback in its call."""
    attempt: int
    delay: float
    """Seconds to wait first."""
    url: str
    method: str
    params: Pairs

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "callback", self.delivery, str(self.attempt))


class FetchDocument(Command, frozen=True, kw_only=True):
    """Ask the application for a document; one try."""

    number: int
    attempt: int
    delay: float
    """Seconds to wait first."""
    url: str
    method: str
    params: Pairs

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "document", str(self.number), str(self.attempt))


class Step(Command, frozen=True, kw_only=True):
    """Run one application of the switch on the channel, as a step of the script."""

    step: str
    """document/verb/step; it stands on the channel as a mark while the step runs."""
    channel: str
    switch: str
    app: str
    arg: str
    returns: tuple[str, ...]
    """Channel variables to be kept of the result."""
    variables: Pairs
    """Channel variables that are set before; an empty value unsets one."""
    digest: str
    started: bool
    """Whether the log holds its `StepStarted`: then the channel is looked at before anything is sent."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "step", self.step)


class StopStep(Command, frozen=True, kw_only=True):
    """Break off what a step of the script runs on the channel, and leave the channel ready for the next one."""

    step: str
    channel: str
    switch: str
    returns: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "stop", self.step)


class ApiStep(Command, frozen=True, kw_only=True):
    """Run one API command of the switch, as a step of the script."""

    step: str
    switch: str
    command: str
    words: tuple[str, ...]
    digest: str
    started: bool
    """Whether the log holds its `StepStarted`; it is sent again all the same, for nobody knows whether it ran."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stream, "step", self.step)
