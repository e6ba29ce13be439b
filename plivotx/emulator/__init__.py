"""A FreeSWITCH event socket without FreeSWITCH: real bytes, real event order, no audio.

`Switch` is the world (channels, applications, far ends), `Factory` serves its event socket over TCP, and
`plivotx.emulator.memory` over memory on a `twisted.internet.task.Clock`.  docs/emulator.md tells what it does and what it
does not.  Of plivotx it imports the table of hangup causes alone: what our own event-socket client believes must not
leak into its double.
"""
