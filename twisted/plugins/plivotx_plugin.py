"""Makes `twistd plivotx` and `twistd plivotx-emulator` exist."""

from twisted.application.service import ServiceMaker

plivotx = ServiceMaker("plivotx", "plivotx.service", "A voice API server on FreeSWITCH.", "plivotx")
emulator = ServiceMaker(
    "plivotx emulator", "plivotx.emulator.service", "A FreeSWITCH without telephones.", "plivotx-emulator"
)
