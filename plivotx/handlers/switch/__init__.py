"""Drive the switch: dial, watch, run steps, hang up; and turn what it tells into facts.

`dialling`, `watching` and `steps` each do some kinds of commands, `listening` takes the events; they share the `board`.
An originate is written once.  What was missed is found out by asking the switch about the channel.
"""
