"""The stories on a real FreeSWITCH 1.10, named by PLIVOTX_FREESWITCH=HOST:PORT (its event socket).

Its password is PLIVOTX_FREESWITCH_PASSWORD (ClueCon if not set).  It needs a gateway ``self`` that comes
back into a context with the far ends of docs/emulator.md, and a gateway ``dead`` behind which nobody is.
Without the variable these tests are skipped.
"""
