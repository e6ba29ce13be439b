"""Verbs for stories: what the verbs that plivotx comes with don't do, or not by themselves."""

from plivotx.hookspecs import hookimpl
from plivotx.restxml.script import Execute, Finish, Start, Stop, Tell, Verb, Wait, api, do, execute


class Breaks(Verb, frozen=True, kw_only=True):
    """Runs an application, tells the application server, and breaks off what runs."""

    app: str = "playback"
    arg: str = "silence_stream://60000"
    url: str = "http://application.test/notice/"
    stop: bool = True

    def run(self, call):
        key = yield Start(Execute(self.app, self.arg, ("record_ms", "playback_ms")))
        yield from do(Tell(self.url))
        if self.stop:
            yield Stop(key)
            yield Wait(key)


class Asks(Verb, frozen=True, kw_only=True):
    """Sets variables, asks the switch for one of them, and ends the call with a cause that has the answer."""

    value: str = ""
    name: str = "asked"

    def run(self, call):
        variables = (("asked", self.value), ("unasked", ""))
        yield from execute("playback", "silence_stream://100", variables=variables)
        heard = yield from api("uuid_getvar", call.channel, self.name)
        return Finish("NORMAL_CLEARING", f"{heard.failed or heard.vars['reply']}")


class Runs(Verb, frozen=True, kw_only=True):
    """Runs an application to its end."""

    app: str = "playback"
    arg: str = ""

    def run(self, call):
        del call
        yield from execute(self.app, self.arg)


@hookimpl
def verbs():
    return (Breaks, Asks, Runs)
