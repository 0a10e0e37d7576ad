"""The talking half of a model host: conversations in, answers out, both as plain JSON.

`Host` owns one and lets it run a step at a time in the thread that computes. Must not know Ray.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from ..candidates import LayerPath
from ..errors import PlaitError
from ..records import JSON
from .chat import CallFailed, Message, Sampling
from .chat_template import ChatTemplate
from .decoder import LayeredDecoder
from .generation import Batcher
from .generation_request import Answer, Generated, GenerationRequest, Unanswered, answer_rows, check_request
from .guided import Guides

Read: TypeAlias = Callable[[Mapping[str, JSON]], GenerationRequest]


class HostGeneration:
    """Generates for the callers of one host; all but `_step` runs in the event loop's thread.

    Args:
        decoder: The model.
        tokenizer: Of the model, with its chat template.
        thread: Where the model computes.
        cache_bytes: For prompt blocks that later requests may share.
    """

    name: ClassVar[str] = "host-generation"
    version: ClassVar[int] = 2
    """Raise it whenever a change of this file, the generation files, the chat template, the decoder or attention may
    change an answer.

    2: labels and answers are read as what continues the conversation's text; logits that are not finite fail.
    """

    def __init__(self, decoder: LayeredDecoder, tokenizer: Any, thread: Executor, cache_bytes: int) -> None:
        self._decoder, self._tokenizer, self._thread, self._cache_bytes = decoder, tokenizer, thread, cache_bytes
        self._template = ChatTemplate(tokenizer)
        self._anchor = tuple(tokenizer.encode("a", add_special_tokens=False))
        self._anchor_text = self._decoded(self._anchor)
        self._guides = None
        if self._template.digest is not None:
            self._guides = Guides.of(tokenizer, decoder.vocabulary, decoder.stop_tokens)
        self._batcher = self._fresh()
        self._new: list[tuple[GenerationRequest, asyncio.Future[Answer]]] = []
        self._running: dict[int, asyncio.Future[Answer]] = {}

    @classmethod
    def load(cls, folder: Path, decoder: LayeredDecoder, thread: Executor, cache_bytes: int) -> "HostGeneration":
        """Read the tokenizer that lies beside the model's weights."""
        from .loading import load_tokenizer

        return cls(decoder, load_tokenizer(folder, decoder.vocabulary), thread, cache_bytes)

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._new or self._running)

    @property
    def facts(self) -> dict[str, JSON]:
        """What answers depend on beside model, dtype and device, and what fits."""
        return {
            "template": self._template.digest, "context": self._decoder.context_length, "version": self.version,
            "structured": self._guides is not None,
        }  # fmt: skip

    @property
    def counters(self) -> dict[str, int]:
        """What was sent and what was run, since the model was loaded (`generation.GenerationCounters`)."""
        return asdict(self._batcher.counters)

    async def answer(
        self, wires: Sequence[Mapping[str, JSON]], read: Read, wake: Callable[[], None]
    ) -> list[dict[str, JSON]]:
        """Return an answer or a failure for each of `wires`, in order; other callers' requests run beside them.

        Cancelled, it takes its requests out of the batch.

        Args:
            wires: Requests as they came.
            read: Turns one into a request, or raises `CallFailed`.
            wake: Called once the requests wait, to have `step` called until nothing is `busy`.
        """
        waiting: list[tuple[GenerationRequest, asyncio.Future[Answer]] | CallFailed] = []
        for wire in wires:
            try:
                waiting.append((read(wire), asyncio.get_running_loop().create_future()))
            except CallFailed as failure:
                waiting.append(failure)
        fresh = [one for one in waiting if not isinstance(one, CallFailed)]
        self._new += fresh
        wake()
        await asyncio.gather(*(answer for _, answer in fresh))
        return [
            {"reason": one.reason, "detail": one.detail}
            if isinstance(one, CallFailed)
            else _wire(one[0], one[1].result())
            for one in waiting
        ]

    async def step(self) -> None:
        """Let in what arrived, drop what nobody waits for, run one step and hand out what ended."""
        new, self._new = [one for one in self._new if not one[1].done()], []
        gone = [number for number, answer in self._running.items() if answer.done()]
        requests = [request for request, _ in new]
        run = asyncio.get_running_loop().run_in_executor
        try:
            numbers, answers = await run(self._thread, self._step, requests, gone)
        except Exception as error:
            # What the batch holds after an error is not known: all who wait are told, the next begin afresh.
            for answer in [*self._running.values(), *(answer for _, answer in new)]:
                if not answer.done():
                    answer.set_exception(error)
            self._running, self._batcher = {}, self._fresh()
            return
        for number in gone:
            del self._running[number]
        self._running.update(zip(numbers, (answer for _, answer in new), strict=True))
        for number, result in answers.items():
            answer = self._running.pop(number)
            if not answer.done():
                answer.set_result(result)

    def _step(self, new: Sequence[GenerationRequest], gone: Sequence[int]) -> tuple[list[int], dict[int, Answer]]:
        for number in gone:
            self._batcher.cancel(number)
        return [self._batcher.add(request) for request in new], self._batcher.step()

    def _fresh(self) -> Batcher:
        return Batcher(self._decoder, self._text, cache_bytes=self._cache_bytes, guides=self._guides)

    def _text(self, tokens: Sequence[int]) -> str:
        """Return what an answer's tokens say in the middle of a text: alone, some decoders drop their first space."""
        whole = self._decoded((*self._anchor, *tokens))
        return whole.removeprefix(self._anchor_text) if whole.startswith(self._anchor_text) else self._decoded(tokens)

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to where the answer begins; see `ChatTemplate.tokens`."""
        return self._template.tokens(messages)

    def text_request(self, wire: Mapping[str, JSON]) -> GenerationRequest:
        """Read {"messages", "sampling", "path"} as a request for text; `path` may be missing or None.

        Raises:
            CallFailed: the request cannot run.
        """
        sampling = Sampling(**{**wire["sampling"], "stop": tuple(wire["sampling"].get("stop", ()))})
        return self._checked(GenerationRequest(self.prompt(wire["messages"]), sampling, None, _path(wire)))

    def label_request(self, wire: Mapping[str, JSON]) -> GenerationRequest:
        """Read {"messages", "labels", "path"} as a request for the labels' log-probabilities.

        Raises:
            CallFailed: the request cannot run.
        """
        labels = list(wire["labels"])
        if len(labels) < 2 or len(set(labels)) < len(labels) or any(one != one.strip() or not one for one in labels):
            wanted = "two or more different ones without spaces around them"
            raise CallFailed("BadRequest", f"labels: got {labels!r}, expected {wanted}")
        prompt, spaces = self.prompt(wire["messages"]), ("", " ")
        said = self._template.continuations(wire["messages"], [space + label for label in labels for space in spaces])
        variants = {label: tuple(said[space + label] for space in spaces) for label in labels}
        return self._checked(GenerationRequest(prompt, labels=variants, path=_path(wire)))

    def _checked(self, request: GenerationRequest) -> GenerationRequest:
        prompt, answer, context = len(request.tokens), answer_rows(request), self._decoder.context_length
        if prompt + answer > context:
            raise CallFailed(
                "TooLong", f"{prompt} tokens of prompt and {answer} of answer, the context holds {context}"
            )
        try:
            check_request(request, self._decoder)
            if request.sampling.schema and self._guides is not None:
                self._guides(request.sampling.schema)  # a bad one is this request's fault, not the batch's
        except PlaitError as error:
            raise CallFailed("BadRequest", str(error)) from error
        return request


def _path(wire: Mapping[str, JSON]) -> tuple[int, ...] | None:
    """Return the layers of the path that the wire names."""
    if wire.get("path") is None:
        return None
    try:
        return LayerPath.parse(wire["path"]).layers
    except PlaitError as error:
        raise CallFailed("BadRequest", str(error)) from error


def _wire(request: GenerationRequest, answer: Answer) -> dict[str, JSON]:
    """Return an answer as plain JSON."""
    if isinstance(answer, Unanswered):
        return {"reason": answer.reason, "detail": answer.detail}
    usage = {"prompt": len(request.tokens), "cached": answer.cached}
    if isinstance(answer, Generated):
        return {
            "text": answer.text, "finish": answer.finish, "usage": usage | {"completion": len(answer.tokens)},
        }  # fmt: skip
    return {"logprobs": answer.logprobs, "inside": answer.inside, "usage": usage | {"completion": 0}}


__all__ = ["HostGeneration"]
