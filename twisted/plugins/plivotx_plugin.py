"""Makes `twistd plivotx` exist."""

from twisted.application.service import ServiceMaker

plivotx = ServiceMaker("plivotx", "plivotx.service", "A voice API server on FreeSWITCH.", "plivotx")
