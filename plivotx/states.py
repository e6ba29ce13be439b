"""Where a call can stand: the values of ``State`` in the API, in the order in which a call passes through them."""

LIVE = ("accepted", "dialling", "ringing", "in-progress")
"""Those of calls that have not ended."""
ENDED = ("completed", "closed")
"""Those of calls that have; `closed`, once the application knows all or that was given up."""
STATES = (*LIVE, *ENDED)
