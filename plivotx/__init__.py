"""A voice API server on FreeSWITCH; start with `plivotx.events`, then `plivotx.engine`."""
