"""Which stream a channel belongs to: many events of the switch carry nothing but a channel UUID."""

from plivotx.events import AttemptStarted, Event


class Channels:
    """The channels of the open calls.  Written by the engine alone."""

    def __init__(self) -> None:
        self._stream_of: dict[str, str] = {}
        self._of_stream: dict[str, list[str]] = {}

    def apply(self, stream: str, event: Event) -> None:
        """Learn what *event* tells about channels; when a stream closes its channels are forgotten."""
        if isinstance(event, AttemptStarted):
            if event.channel not in self._stream_of:
                self._stream_of[event.channel] = stream
                self._of_stream.setdefault(stream, []).append(event.channel)
        elif event.closes:
            for channel in self._of_stream.pop(stream, ()):
                del self._stream_of[channel]

    def stream(self, channel: str) -> str | None:
        """The open call that has this channel."""
        return self._stream_of.get(channel)

    def __len__(self) -> int:
        return len(self._stream_of)
