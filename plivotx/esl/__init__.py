"""FreeSWITCH's event socket: `frames` and `session` speak it, `dialstring` keeps it safe.

All but `connections` is pure: no Twisted, no clock, no dice, no sockets.
"""
