"""The script: once the call is answered its document is fetched, and the verbs run one by one."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from plivotx.commands import Command, Decide, FetchDocument, Step
from plivotx.config import Config
from plivotx.events import Event, Pairs, ScriptEnded, VerbAbandoned, VerbEnded
from plivotx.policies import Policy
from plivotx.policies.call_back import backoff
from plivotx.projections.call import Attempt, Call
from plivotx.restxml.document import DocumentError, parse
from plivotx.restxml.script import Changed, Over, Verb, replay

UNREACHABLE = "NETWORK_OUT_OF_ORDER"
"""Hangup cause when the application gave no document."""
UNREADABLE = "PROTOCOL_ERROR"
"""Hangup cause when the document cannot be run."""


def run_script(verbs: Mapping[str, type[Verb]], session: Callable[[Call], Pairs], config: Config) -> Policy:
    """The policy; *verbs* are the known ones by name, *session* gives the parameters of a request."""

    @lru_cache(maxsize=256)
    def read(text: str) -> tuple[Verb, ...] | DocumentError:
        if not text.strip():
            return ()  # an empty answer is how applications say that there is nothing to do
        try:
            return parse(text, verbs)
        except DocumentError as error:
            return error

    def due(call: Call) -> Iterator[Command]:
        up, script = call.up, call.script
        if up is None or not up.answered_at or script.end or call.limits:
            return
        if script.body is None:
            yield _fetch(call)
            return
        document = read(script.body)
        if isinstance(document, DocumentError):
            yield _decide(call, ScriptEnded(cause=UNREADABLE, why=f"document {script.number}: {document}"))
        elif script.verb >= len(document):
            yield _decide(call, ScriptEnded(cause="NORMAL_CLEARING", why="end of the document"))
        else:
            yield from _verb(call, up, document[script.verb])

    def _fetch(call: Call) -> Command:
        failures = call.script.failures
        if call.script.hopeless or len(failures) >= config.document_tries:
            return _decide(call, ScriptEnded(cause=UNREACHABLE, why=failures[-1]))
        delay = backoff(
            len(failures), call.uuid, config.document_retry_delay, config.document_retry_delay * 4
        )
        return FetchDocument(
            stream=call.uuid,
            number=call.script.number,
            attempt=len(failures) + 1,
            delay=delay,
            url=call.request.answer_url,
            method=config.default_http_method,
            params=session(call),
        )

    return due


def _decide(call: Call, event: Event) -> Decide:
    return Decide(stream=call.uuid, event=event)


def _verb(call: Call, up: Attempt, verb: Verb) -> Iterator[Command]:
    script = call.script
    where = replay(verb, f"{script.number}/{script.verb}", script.history)
    if isinstance(where, Over):
        if where.finish:
            yield _decide(call, ScriptEnded(cause=where.finish.cause, why=where.finish.why))
        else:
            name = type(verb).__name__
            yield _decide(call, VerbEnded(document=script.number, verb=script.verb, name=name))
    elif isinstance(where, Changed):
        yield _decide(call, VerbAbandoned(document=script.number, verb=script.verb, why=where.why))
    else:
        for key, command, started in where.running:
            yield Step(
                stream=call.uuid,
                step=key,
                channel=up.channel,
                switch=up.switch,
                app=command.app,
                arg=command.arg,
                returns=command.returns,
                digest=command.digest,
                started=started,
            )
