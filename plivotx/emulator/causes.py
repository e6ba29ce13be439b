"""How FreeSWITCH reads a hangup cause, and the SIP status a far end refuses with (switch_channel.c, sofia_glue)."""

from plivotx.causes import CAUSES, NAMES

SIP_STATUS: dict[str, tuple[int, str]] = {
    "UNALLOCATED_NUMBER": (404, "Not Found"),
    "NO_ROUTE_DESTINATION": (404, "Not Found"),
    "USER_BUSY": (486, "Busy Here"),
    "NORMAL_TEMPORARY_FAILURE": (503, "Service Unavailable"),
    "CALL_REJECTED": (603, "Decline"),
    "NO_USER_RESPONSE": (480, "Temporarily Unavailable"),
    "INCOMPATIBLE_DESTINATION": (488, "Not Acceptable Here"),
}


def cause(text: str | None) -> str:
    """Read a cause as switch_channel_str2cause does: a name in any case or a number; else NORMAL_CLEARING."""
    if text:
        if text[0].isascii() and text[0].isdigit():
            digits = text[: next((i for i, char in enumerate(text) if not "0" <= char <= "9"), len(text))]
            return NAMES.get(int(digits[:9]), "NORMAL_CLEARING")
        if text.upper() in CAUSES:
            return text.upper()
    return "NORMAL_CLEARING"
