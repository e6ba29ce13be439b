"""docs/verbs.md, made of the classes of the verbs; `script/verbs` prints it."""

import inspect
from collections.abc import Mapping

from plivotx.restxml.attributes import Attribute, attributes
from plivotx.restxml.script import Verb

HEAD = """\
# The verbs

What a document may hold. This page is made of the definitions of the verbs (`script/verbs > docs/verbs.md`);
`script/verbs FOLDER` describes an operator's own verbs as well. How to write one is in [verbs-howto.md](verbs-howto.md).

A document is XML with the root `Response`; its verbs run one after the other, and its end hangs up the call. The whole
document is checked before anything is run. One that cannot be run ends the call with PROTOCOL_ERROR, one that cannot be
fetched with NETWORK_OUT_OF_ORDER, and the server's log says where and why: URL, line, column, attribute and value.

Attributes that a verb does not know are ignored. Of true and false only `true` is true. *lenient* means that a value which
cannot be used counts as not given. A method that is not given is DEFAULT_HTTP_METHOD. A document may redirect up to
MAX_DOCUMENTS times, and no more than 50 times in a row without anything having been run on the channel. All documents of
a call together may have 8 KiB of characters for each of MAX_DOCUMENTS, and 8 MiB in any case. A call may have 50 events
for each of MAX_DOCUMENTS, and 50000 in any case, then it is ended: a verb makes three of them, or a few more.

`plivotx lint` checks a document or a URL without a call ([cli.md](cli.md#checking-a-document)).

## If you come from v0.1

* Not there yet: Conference, Dial with its Number, GetSpeech, SIPTransfer. A document with one of them is refused as a whole.
* Whose documents cannot be run or fetched sees it in HangupCause; it was NORMAL_CLEARING. An empty answer still hangs up with that.
* The `method` of Redirect and of every action counts. v0.1 looked at it and then used DEFAULT_HTTP_METHOD.
* Whole paths are those of FreeSWITCH's host, and confined to PLAY_FOLDERS and RECORD_FOLDERS. Sounds behind a URL are fetched by
  FreeSWITCH as they are ([freeswitch.md](freeswitch.md#what-to-look-after)); there is no cache server.
* *action* of Record is told of a recording also if the caller hung up.
* A Notify that fails does not end the call and is tried again like any callback; a text inside Hangup does no harm.
"""


def page(verbs: Mapping[str, type[Verb]]) -> str:
    """The whole page for these verbs."""
    return "\n".join((HEAD, *(_section(verbs[name]) for name in sorted(verbs))))


def _section(verb: type[Verb]) -> str:
    lines = [f"## {verb.__name__}", "", inspect.cleandoc(verb.__doc__ or ""), ""]
    if verb.content:
        lines += [f"Between the tags: {verb.content}.", ""]
    if verb.nests:
        lines += [f"Inside may stand: {', '.join(verb.nests)}.", ""]
    if listed := attributes(verb):
        lines += ["| attribute | default | value | |", "|---|---|---|---|"]
        lines += [_row(each) for each in listed]
        lines.append("")
    return "\n".join(lines)


def _row(each: Attribute) -> str:
    default = "" if each.default in (None, "") else f"`{str(each.default).lower()}`"
    if isinstance(each.default, str) and each.default:
        default = f"`{each.default}`"
    rule = each.rule + (", lenient" if each.lenient else "")
    return f"| `{each.name}` | {'required' if each.required else default} | {rule} | {each.description} |"
