"""conf/freeswitch is whole, keeps what it promises, and has the far ends of the emulator."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config, split_address
from plivotx.emulator import farends
from plivotx.testing import EmulatedWorld

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "conf" / "freeswitch"
FILES = sorted(FOLDER.rglob("*.xml"))


def read(name):
    return ET.parse(FOLDER / name)


def parameters(element):
    return {each.get("name"): each.get("value") for each in element.iter("param")}


def dialled(number, host="127.0.0.1"):
    """The actions that the dialplan of the far ends has for a number."""
    for extension in read("dialplan/farend.xml").iter("extension"):
        (condition,) = extension.findall("condition")
        value = {"destination_number": number, "${sip_from_host}": host}[condition.get("field")]
        if found := re.search(condition.get("expression"), value, re.ASCII):
            return [
                (each.get("application"), expanded(each.get("data", ""), number, found))
                for each in condition.findall("action")
            ]
    return [("hangup", "NO_ROUTE_DESTINATION")]


def expanded(data, number, found):
    """The argument as FreeSWITCH expands it: groups of the expression, and parts of the number."""
    data = re.sub(r"\$(\d)", lambda group: found[int(group[1])], data)
    return re.sub(
        r"\$\{destination_number:(\d):(\d)\}",
        lambda part: number[int(part[1]) : int(part[1]) + int(part[2])],
        data,
    )


def steps(actions):
    """What a far end does, as the emulator's scripts say it, from the actions of the dialplan."""
    made, after = [], 0.0
    for application, argument in actions:
        if application == "sleep":
            after += int(argument) / 1000
        elif application == "playback":
            tone, loops = re.fullmatch(r"tone_stream://%\((\d+),0,440\);loops=(\d+)", argument).groups()
            after += int(tone) * int(loops) / 1000
        elif application != "park":
            act = {"ring_ready": "ring", "pre_answer": "early", "send_dtmf": "digits"}.get(
                application, application
            )
            if application == "hangup":
                act = "bye" if any(each[1] == "answer" for each in made) else "refuse"
            made.append((round(after, 3), act, argument))
            after = 0.0
    if after and any(act == "answer" for _, act, _ in made):
        made.append((after, "bye", "NORMAL_CLEARING"))  # behind its last action a call is hung up
    return made


def emulated(number):
    """The same of the emulator; that it talks is a tone here."""
    return [
        (round(each.after, 3), each.act, each.detail)
        for each in farends.script(number)
        if each.act not in {"talk", "mute"}
    ]


class TheFarEnds(SynchronousTestCase):
    def test_do_what_those_of_the_emulator_do(self):
        for number in (
            *(
                "101",
                "1001",
                "112345",
                "201",
                "2125",
                "3",
                "300",
                "404",
                "4045",
                "486",
                "4861",
                "503",
                "5031",
            ),
            *("603", "6031", "51", "542", "50", "6", "61", "600", "702", "7105", "9", "99"),
            *("", "0", "1", "10", "2", "20", "4", "40", "5", "7", "70", "8", "88", "+101", "abc"),
        ):
            with self.subTest(number=number):
                self.assertEqual(steps(dialled(number)), emulated(number))

    @given(st.text("0123456789", min_size=1, max_size=12))
    def test_do_so_for_any_number(self, number):
        self.assertEqual(steps(dialled(number)), emulated(number))

    def test_are_all_busy_behind_the_gateway_of_that_name(self):
        busy = read("sip_profiles/farend.xml").find(".//gateway[@name='busy']")
        host = parameters(busy)["from-domain"]
        for number in ("101", "9", "nothing"):
            self.assertEqual(dialled(number, host), [("hangup", "USER_BUSY")])

    def test_are_behind_gateways_that_the_emulator_has_too(self):
        profile = read("sip_profiles/farend.xml").find("profile")
        gateways = {each.get("name"): parameters(each) for each in profile.iter("gateway")}
        port = parameters(profile.find("settings"))["sip-port"]
        self.assertEqual(set(gateways), {"self", "dead", "busy"})
        for name in ("self", "busy"):
            self.assertEqual(gateways[name]["proxy"], f"127.0.0.1:{port}")
        self.assertNotIn(f":{port}", gateways["dead"]["proxy"])
        self.assertLessEqual({"dead", "busy"}, set(EmulatedWorld().switch.gateways))


class TheConfiguration(SynchronousTestCase):
    def test_includes_every_file(self):
        text = (FOLDER / "freeswitch.xml").read_text(encoding="utf-8")
        patterns = re.findall(r'cmd="include" data="([^"]+)"', text)
        included = {file for each in patterns for file in FOLDER.glob(each)}
        self.assertEqual(included | {FOLDER / "freeswitch.xml"}, set(FILES))
        for each in FILES:
            ET.parse(each)

    def test_is_reached_as_plivotx_does_by_default(self):
        told = parameters(read("event_socket.conf.xml"))
        self.assertEqual(told["password"], Config().fs_inbound_password)
        page = (ROOT / "docs" / "freeswitch.md").read_text(encoding="utf-8")
        host, port = split_address(re.search(r"PLIVOTX_FS_INBOUND_ADDRESS=(\S+)", page)[1])
        self.assertEqual((told["listen-ip"], told["listen-port"]), (host, str(port)))
        (network,) = read("acl.conf.xml").iter("list")
        self.assertEqual((network.get("name"), network.get("default")), (told["apply-inbound-acl"], "deny"))
        self.assertEqual([each.get("cidr") for each in network], ["127.0.0.1/32"])

    def test_runs_no_commands_out_of_texts_and_gives_up_calls_without_audio(self):
        root = read("freeswitch.xml")
        self.assertEqual(parameters(root)["api-expansion"], "false")
        variables = dict(
            each.get("data").split("=", 1) for each in root.iter("X-PRE-PROCESS") if each.get("cmd") == "set"
        )
        self.assertGreaterEqual(int(variables["media_timeout"]), 60_000)
        self.assertGreater(int(variables["media_hold_timeout"]), int(variables["media_timeout"]))

    def test_lets_nobody_from_outside_to_the_far_ends(self):
        external, farend = (
            read(f"sip_profiles/{name}.xml").find("profile") for name in ("external", "farend")
        )
        self.assertEqual(parameters(external.find("settings"))["context"], "incoming")
        settings = parameters(farend.find("settings"))
        self.assertEqual((settings["context"], settings["sip-ip"]), ("farend", "127.0.0.1"))
        actions = [
            (each.get("application"), each.get("data"))
            for each in read("dialplan/incoming.xml").iter("action")
        ]
        self.assertEqual(actions, [("hangup", "CALL_REJECTED")])

    def test_is_listed_file_by_file_in_its_page(self):
        page = (ROOT / "docs" / "freeswitch.md").read_text(encoding="utf-8")
        for each in FILES:
            self.assertIn(
                f"`{each.relative_to(FOLDER)}`", page.replace("`freeswitch.xml`:", "`freeswitch.xml` ")
            )
