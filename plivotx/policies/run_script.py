"""The script: once the call is answered its document is fetched, and the verbs run one by one.

When the channel is gone the verb that runs is asked once more what it has to tell the application; that
is all that can still be done.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import msgspec

from plivotx.commands import ApiStep, Command, Decide, FetchDocument, Step, StopStep
from plivotx.config import Config
from plivotx.events import (
    CallbackOwed,
    Event,
    Pairs,
    Redirected,
    ScriptEnded,
    StepEnded,
    StepStarted,
    VerbAbandoned,
    VerbEnded,
    VerbRound,
)
from plivotx.policies import Policy
from plivotx.policies.call_back import backoff
from plivotx.projections.call import Attempt, Call, Script
from plivotx.restxml.document import DocumentError, parse
from plivotx.restxml.script import (
    Again,
    Api,
    Caller,
    Changed,
    Execute,
    Finish,
    Goto,
    Outcome,
    Over,
    Running,
    Tell,
    Verb,
    Waiting,
    kind,
    replay,
)

UNREACHABLE = "NETWORK_OUT_OF_ORDER"
"""Hangup cause when the application gave no document."""
UNREADABLE = "PROTOCOL_ERROR"
"""Hangup cause when the document cannot be run, or leads nowhere."""
MAX_IDLE = 50
"""Documents in a row that do nothing but name the next one; more are a circle."""
MIN_EVENTS = 50_000
"""Events that a call may have, at least, before its script is ended: all are kept in the log, and in its record."""
EVENTS_EACH = 50
"""The same for each of MAX_DOCUMENTS."""
MIN_READ = 8 * 1024 * 1024
"""Characters that all documents of a call may have together, at least: all of them are kept in the log."""
READ_EACH = 8 * 1024
"""The same for each of MAX_DOCUMENTS, on average."""
LONG = 16 * 1024
"""Characters of a document that is not often kept, once it was read."""


def run_script(verbs: Mapping[str, type[Verb]], session: Callable[[Call], Pairs], config: Config) -> Policy:
    """The policy; *verbs* are the known ones by name, *session* gives the parameters of a request."""
    return _Scripts(verbs, session, config).due


class _Scripts:
    """What is due of a script; it keeps nothing but documents that it has read."""

    def __init__(
        self, verbs: Mapping[str, type[Verb]], session: Callable[[Call], Pairs], config: Config
    ) -> None:
        self._verbs = verbs
        self._session = session
        self._config = config
        self._most_events = max(MIN_EVENTS, EVENTS_EACH * config.max_documents)
        self._most_read = max(MIN_READ, READ_EACH * config.max_documents)
        self._read = lru_cache(maxsize=256)(self._parsed)
        self._read_long = lru_cache(maxsize=32)(self._parsed)

    def _parsed(self, text: str) -> tuple[Verb, ...] | DocumentError:
        if not text.strip():
            return ()  # an empty answer is how applications say that there is nothing to do
        try:
            return parse(text, self._verbs, self._config)
        except DocumentError as error:
            return error

    def due(self, call: Call) -> Iterator[Command]:
        """See `plivotx.policies.Policy`."""
        at, script = call.attempt, call.script
        if at is None or not at.answered_at or script.end or call.closed:
            return
        gone = call.up is None
        cut = any(isinstance(each, StepEnded) and each.cut for each in script.history)
        if gone and not script.history:
            return  # nothing had begun
        if not gone and (call.limits or call.hangup or cut):
            return  # it is being hung up, and will soon be gone
        if call.version >= self._most_events and not gone:
            most = self._most_events
            why = (
                f"document {script.number}, {_source(call)}: the call has {most} events, and may have no more"
            )
            yield _decide(call, ScriptEnded(cause=UNREADABLE, why=why, fault=True))
            return
        if script.body is None:
            yield self._fetch(call)
            return
        document = (self._read_long if len(script.body) > LONG else self._read)(script.body)
        if isinstance(document, DocumentError):
            why = f"document {script.number}, {_source(call)}: {document}"
            yield _decide(call, ScriptEnded(cause=UNREADABLE, why=why, fault=True))
        elif script.verb >= len(document):
            yield _decide(call, ScriptEnded(cause="NORMAL_CLEARING", why="end of the document"))
        else:
            yield from self._verb(call, at, document[script.verb], gone=gone)

    def _fetch(self, call: Call) -> Command:
        script = call.script
        if script.hopeless or len(script.failures) >= self._config.document_tries:
            end = ScriptEnded(
                cause=UNREACHABLE, why=f"document {script.number}: {script.failures[-1]}", fault=True
            )
            return _decide(call, end)
        delay = backoff(
            len(script.failures),
            call.uuid,
            self._config.document_retry_delay,
            self._config.document_retry_delay * 4,
        )
        source = script.source or Redirected(
            document=0,
            url=call.request.answer_url,
            method=self._config.default_http_method,
            params=self._session(call),
        )
        return FetchDocument(
            stream=call.uuid,
            number=script.number,
            attempt=len(script.failures) + 1,
            delay=delay,
            url=source.url,
            method=source.method,
            params=source.params,
        )

    def _verb(self, call: Call, at: Attempt, verb: Verb, *, gone: bool) -> Iterator[Command]:
        script = call.script
        caller = Caller(channel=at.channel, request=call.request, config=self._config, round=script.round)
        where = replay(
            verb,
            caller,
            f"{script.number}/{script.verb}",
            script.history,
            steps=script.steps,
            gone=gone,
        )
        owing = list(self._steps(call, at, where.running, gone=gone))
        if owing or isinstance(where, Waiting):
            yield from owing
        elif gone:
            why = where.why if isinstance(where, Changed) else "the channel is gone"
            yield _decide(call, ScriptEnded(cause=at.cause, why=why, fault=isinstance(where, Changed)))
        elif isinstance(where, Changed):
            yield _decide(call, VerbAbandoned(document=script.number, verb=script.verb, why=where.why))
        else:
            yield _decide(call, self._outcome(call, type(verb).__name__, where))

    def _steps(
        self, call: Call, at: Attempt, running: tuple[Running, ...], *, gone: bool
    ) -> Iterator[Command]:
        busy = False  # one application at a time; nothing is queued behind one that may be broken off
        for each in running:
            if isinstance(each.command, Tell):
                yield from self._tell(call, each, each.command)
            elif gone:
                continue
            elif isinstance(each.command, Api):
                yield _api(call, at, each, each.command)
            elif each.stop and not each.started:
                yield _decide(call, StepEnded(key=each.key, stopped=True))
            elif not busy:
                busy = True
                yield _stop(call, at, each) if each.stop else _step(call, at, each, each.command)

    def _tell(self, call: Call, step: Running, command: Tell) -> Iterator[Command]:
        owed = next((each for each in call.owed if each.what.key == step.key), None)
        if not step.started:
            yield _decide(call, StepStarted(key=step.key, digest=command.digest, kind=kind(command)))
        elif owed is None:
            yield _decide(
                call,
                CallbackOwed(
                    key=step.key,
                    url=command.url,
                    method=command.method or self._config.default_http_method,
                    params=(*self._session(call), *command.params),
                ),
            )
        elif owed.tries or owed.settled:
            failed = "" if owed.delivered else owed.why
            yield _decide(call, StepEnded(key=step.key, failed=failed))

    def _outcome(self, call: Call, name: str, over: Over) -> Event:
        script = call.script
        outcome: Outcome = over.outcome
        if isinstance(outcome, Finish):
            return ScriptEnded(cause=outcome.cause, why=outcome.why)
        if isinstance(outcome, Again):
            if over.steps == script.steps:
                why = f"{name} begins anew without having done anything"
                return VerbAbandoned(document=script.number, verb=script.verb, why=why)
            return VerbRound(document=script.number, verb=script.verb, steps=over.steps)
        if isinstance(outcome, Goto):
            return self._redirect(call, name, outcome)
        return VerbEnded(document=script.number, verb=script.verb, name=name)

    def _redirect(self, call: Call, name: str, goto: Goto) -> Event:
        script = call.script
        where = f"document {script.number}, {_source(call)}: {name} leads to {goto.url}"
        if script.number >= self._config.max_documents:
            most = self._config.max_documents
            why = f"{where}, and {most} documents (MAX_DOCUMENTS) are all that a call may have"
            return ScriptEnded(cause=UNREADABLE, why=why, fault=True)
        if script.read >= self._most_read:
            why = f"{where}, and the documents of a call may have {self._most_read} characters in all"
            return ScriptEnded(cause=UNREADABLE, why=why, fault=True)
        if script.idle >= MAX_IDLE:
            why = f"{where}, and nothing was done in the last {MAX_IDLE} documents: they go round in circles"
            return ScriptEnded(cause=UNREADABLE, why=why, fault=True)
        following = msgspec.structs.replace(call, script=Script(number=script.number + 1))
        return Redirected(
            document=script.number,
            url=goto.url,
            method=goto.method or self._config.default_http_method,
            params=(*self._session(following), *goto.params),
        )


def _decide(call: Call, event: Event) -> Decide:
    return Decide(stream=call.uuid, event=event)


def _source(call: Call) -> str:
    source = call.script.source
    return f"{source.method} {source.url}" if source else call.request.answer_url


def _step(call: Call, at: Attempt, step: Running, command: Execute) -> Step:
    return Step(
        stream=call.uuid,
        step=step.key,
        channel=at.channel,
        switch=at.switch,
        app=command.app,
        arg=command.arg,
        returns=command.returns,
        variables=command.variables,
        digest=command.digest,
        started=step.started,
    )


def _stop(call: Call, at: Attempt, step: Running) -> StopStep:
    returns = step.command.returns if isinstance(step.command, Execute) else ()
    return StopStep(stream=call.uuid, step=step.key, channel=at.channel, switch=at.switch, returns=returns)


def _api(call: Call, at: Attempt, step: Running, command: Api) -> ApiStep:
    return ApiStep(
        stream=call.uuid,
        step=step.key,
        switch=at.switch,
        command=command.command,
        words=command.words,
        digest=command.digest,
        started=step.started,
    )
