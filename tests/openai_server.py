"""A real model behind OpenAI's API on 127.0.0.1, for tests of the client: SmolLM2 through `LayeredDecoder`.

    with OpenAIServer(folder) as server:
        model = EndpointChat("smollm2", server.url)

One call is computed at a time. Greedy at temperature 0, else drawn by `seed`; log-probabilities of the first
`top_logprobs` tokens of each step; no JSON schemas (the field is accepted and ignored, as many servers do).
"""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from plait.models.attention import KVStore
from plait.models.decoder import LayeredDecoder
from transformers import AutoTokenizer


class Service:
    """Answers request bodies."""

    def __init__(self, folder: Path | str, name: str = "smollm2") -> None:
        self.name = name
        self._decoder = LayeredDecoder.load(folder, min_rows=1)  # nothing shares a batch here
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._lock = threading.Lock()

    def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self.name, "max_model_len": self._decoder.context_length}]}

    def complete(self, body: dict[str, Any]) -> dict[str, Any] | JSONResponse:
        if body["model"] != self.name:
            return refuse(404, f"The model `{body['model']}` does not exist", "model_not_found")
        if body.get("top_logprobs", 0) > 20:
            return refuse(400, "top_logprobs must be at most 20", None)
        prompt = self._prompt(body)
        limit = body.get("max_tokens", 64)
        if len(prompt) + limit > self._decoder.context_length:
            return refuse(400, f"maximum context length is {self._decoder.context_length} tokens", None)
        with self._lock:
            return self._answer(body, prompt, limit)

    def _prompt(self, body: dict[str, Any]) -> list[int]:
        kinds = {name: body[name] for name in ("continue_final_message", "add_generation_prompt") if name in body}
        kinds.setdefault("add_generation_prompt", True)
        text = self._tokenizer.apply_chat_template(body["messages"], tokenize=False, **kinds)
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def _answer(self, body: dict[str, Any], prompt: list[int], limit: int) -> dict[str, Any]:
        torch.set_num_threads(1)  # of this thread: bits must not depend on cores
        made, listed, text, finish = [], [], "", "length"
        store, new, seen = KVStore(shared=False), prompt, 0
        generator = torch.Generator().manual_seed(body.get("seed") or 0)
        while len(made) < limit:
            hidden = self._decoder.forward(torch.tensor(new), range(self._decoder.depth), start=seen, kv=store)
            seen += len(new)
            logprobs = self._decoder.head(hidden[-1:])[0].double().log_softmax(-1)
            token = self._choose(logprobs, body, generator)
            listed.append(self._entry(logprobs, token, body.get("top_logprobs", 0)))
            if token in self._decoder.stop_tokens:
                finish = "stop"
                break
            made.append(token)
            new = [token]
            text = self._tokenizer.decode(made)
            ends = [text.find(word) for word in body.get("stop") or [] if word in text]
            if ends:
                text, finish = text[: min(ends)], "stop"
                break
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": listed}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(listed)}
        return {"object": "chat.completion", "model": self.name, "choices": [choice], "usage": usage}

    def _choose(self, logprobs: torch.Tensor, body: dict[str, Any], generator: torch.Generator) -> int:
        temperature = body.get("temperature", 1.0)
        if temperature == 0:
            return int(logprobs.argmax())
        return int(torch.multinomial((logprobs / temperature).softmax(-1), 1, generator=generator))

    def _entry(self, logprobs: torch.Tensor, token: int, top: int) -> dict[str, Any]:
        values, ids = logprobs.topk(top)
        pairs = zip(ids.tolist(), values.tolist(), strict=True)
        listed = [{"token": self._tokenizer.decode([each]), "logprob": value} for each, value in pairs]
        return {"token": self._tokenizer.decode([token]), "logprob": float(logprobs[token]), "top_logprobs": listed}


def refuse(status: int, message: str, code: str | None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


def application(service: Service) -> FastAPI:
    app = FastAPI()
    app.get("/v1/models")(service.models)

    @app.post("/v1/chat/completions", response_model=None)
    def complete(body: dict[str, Any]) -> dict[str, Any] | JSONResponse:
        return service.complete(body)

    return app


class OpenAIServer:
    """Serves a folder's model from a thread of its own."""

    def __init__(self, folder: Path | str) -> None:
        config = uvicorn.Config(application(Service(folder)), host="127.0.0.1", port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="openai-server", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:  # uvicorn tells it by this flag alone
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)
