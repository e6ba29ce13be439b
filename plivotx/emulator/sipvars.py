"""The variables that mod_sofia and the media layer set on an outgoing leg, by the moment at which they appear.

Taken from the recordings orig_answer_park and orig_486 (names) with made-up values: nobody listens to this audio.
Values are format strings: `{number}` is the number called, `{caller}` our caller id.
"""

from collections.abc import Mapping
from functools import lru_cache

from plivotx.emulator.variables import Variables

_PAYLOADS = {"PCMU": "0", "PCMA": "8"}

_DIALLED = {
    "rtp_use_codec_string": "PCMU,PCMA",
    "local_media_ip": "127.0.0.1",
    "local_media_port": "22440",
    "advertised_media_ip": "127.0.0.1",
    "audio_media_flow": "sendrecv",
    "rtp_local_sdp_str": "v=0\r\no=FreeSWITCH 1 2 IN IP4 127.0.0.1\r\ns=FreeSWITCH\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 22440 RTP/AVP 0 8 101 13\r\na=ptime:20\r\na=sendrecv\r\n",
    "sip_outgoing_contact_uri": "<sip:gw+self@127.0.0.1:5080;transport=udp;gw=self>",
    "sip_req_uri": "{number}@127.0.0.1:5080",
    "sip_to_host": "127.0.0.1:5080",
    "sip_from_host": "127.0.0.1",
    "sofia_profile_name": "lab",
    "recovery_profile_name": "lab",
    "sofia_profile_url": "sip:mod_sofia@127.0.0.1:5080",
}

_ANSWERED = {
    "sip_reply_host": "127.0.0.1",
    "sip_reply_port": "5080",
    "sip_network_ip": "127.0.0.1",
    "sip_network_port": "5080",
    "sip_user_agent": "{user_agent}",
    "sip_allow": "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, INFO, UPDATE, REGISTER, REFER, NOTIFY",
    "sip_recover_contact": "<sip:{number}@127.0.0.1:5080;transport=udp>",
    "sip_full_via": "SIP/2.0/UDP 127.0.0.1:5080;rport=5080;branch=z9hG4bK1",
    "sip_recover_via": "SIP/2.0/UDP 127.0.0.1:5080;rport=5080;branch=z9hG4bK1",
    "sip_full_from": "<sip:{caller}@127.0.0.1>;tag=1",
    "sip_full_to": "<sip:{number}@127.0.0.1:5080>;tag=2",
    "sip_from_user": "{caller}",
    "sip_from_uri": "{caller}@127.0.0.1",
    "sip_to_user": "{number}",
    "sip_to_port": "5080",
    "sip_to_uri": "{number}@127.0.0.1:5080",
    "sip_to_host": "127.0.0.1",
    "sip_contact_params": "transport=udp",
    "sip_contact_user": "{number}",
    "sip_contact_port": "5080",
    "sip_contact_uri": "{number}@127.0.0.1:5080",
    "sip_contact_host": "127.0.0.1",
    "sip_to_tag": "2",
    "sip_from_tag": "1",
    "sip_cseq": "1",
    "sip_call_id": "1",
}

_OFFERED = {
    "switch_r_sdp": "v=0\r\no=FreeSWITCH 3 4 IN IP4 127.0.0.1\r\ns=FreeSWITCH\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 24786 RTP/AVP {payload} 101 13\r\na=ptime:20\r\n",
    "ep_codec_string": "CORE_PCM_MODULE.{codec}@8000h@20i@64000b",
}

_MEDIA = {
    "remote_video_media_flow": "inactive",
    "remote_text_media_flow": "inactive",
    "remote_audio_media_flow": "sendrecv",
    "rtp_audio_recv_pt": "{payload}",
    "rtp_use_codec_name": "{codec}",
    "rtp_use_codec_rate": "8000",
    "rtp_use_codec_ptime": "20",
    "rtp_use_codec_channels": "1",
    "rtp_last_audio_codec_string": "{codec}@8000h@20i@1c",
    "read_codec": "{codec}",
    "original_read_codec": "{codec}",
    "read_rate": "8000",
    "original_read_rate": "8000",
    "write_codec": "{codec}",
    "write_rate": "8000",
    "dtmf_type": "rfc2833",
    "rtp_use_timer_name": "soft",
    "rtp_use_pt": "{payload}",
    "rtp_use_ssrc": "1",
    "rtp_2833_send_payload": "101",
    "rtp_2833_recv_payload": "101",
    "remote_media_ip": "127.0.0.1",
    "remote_media_port": "24786",
}

_STATISTICS = {
    "rtp_audio_" + name: value
    for names, value in (
        ("in_raw_bytes in_media_bytes in_packet_count in_media_packet_count in_skip_packet_count", "0"),
        ("in_jitter_packet_count in_dtmf_packet_count in_cng_packet_count in_flush_packet_count", "0"),
        ("in_largest_jb_size", "0"),
        ("in_jitter_min_variance in_jitter_max_variance in_jitter_loss_rate in_jitter_burst_rate", "0.00"),
        ("in_mean_interval", "0.00"),
        ("in_flaw_total", "0"),
        ("in_quality_percentage", "100.00"),
        ("in_mos", "4.50"),
        ("out_raw_bytes out_media_bytes out_packet_count out_media_packet_count", "0"),
        ("out_skip_packet_count out_dtmf_packet_count out_cng_packet_count", "0"),
        ("rtcp_packet_count rtcp_octet_count", "0"),
    )
    for name in names.split()
}


@lru_cache(maxsize=256)
def dialled(number: str) -> Variables:
    """Before CHANNEL_CREATE."""
    return _filled(_DIALLED, number=number)


@lru_cache(maxsize=256)
def answered(number: str, caller: str, user_agent: str) -> Variables:
    """With the first reply: ringing, early media or answer."""
    return _filled(_ANSWERED, number=number, caller=caller, user_agent=user_agent)


@lru_cache(maxsize=16)
def offered(codec: str) -> Variables:
    """With the first session description of the far end."""
    return _filled(_OFFERED, codec=codec, payload=_PAYLOADS[codec])


@lru_cache(maxsize=16)
def media(codec: str) -> Variables:
    """Once audio flows."""
    return _filled(_MEDIA, codec=codec, payload=_PAYLOADS[codec])


def _filled(table: Mapping[str, str], **about: str) -> Variables:
    return Variables({name: value.format(**about) for name, value in table.items()})


STATISTICS = Variables(_STATISTICS)
"""At the end of a leg that had media."""
