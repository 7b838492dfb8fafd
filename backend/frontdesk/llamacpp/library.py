"""llama.cpp itself: its log, opening a model, opening a context. Knows no sequence, no batch and no request."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import llama_cpp as _llama_cpp

from frontdesk.engine.scheduler import PIECE
from frontdesk.errors import ModelLoadFailed

# The bindings annotate C pointers and integers with types that ctypes converts to by itself: checked by running.
llama_cpp: Any = _llama_cpp

KV_TYPES: Final = {"f16": llama_cpp.GGML_TYPE_F16, "f32": llama_cpp.GGML_TYPE_F32, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
CELL_PADDING: Final = 256  # llama.cpp rounds the cells of a stream up to this
BUILD: Final = f"llama-cpp-python {llama_cpp.__version__}"
MAX_SEQUENCES: Final = 256  # LLAMA_MAX_SEQ
UBATCH: Final = 512 + PIECE  # rows that are computed together: the largest chunk that pays, with its rest
EXACT_UBATCH: Final = 32  # rows; ggml's flash attention changes its kernel from 64 rows of one sequence on
WARNING, ERROR = 3, 4  # ggml_log_level; 5 continues the line before
FLASH: Final = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type

_recent: deque[str] = deque(maxlen=20)
_listeners: list[Callable[[str], None]] = []


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    """Kept at module level: llama.cpp holds the pointer for the life of the process. Keeps warnings and errors."""
    line = text.decode("utf-8", "replace").strip()
    for listener in _listeners:
        listener(line)
    if level in (WARNING, ERROR):
        _recent.append(line)


@cache
def start() -> None:
    """Start llama.cpp once in this process, with its log turned towards us."""
    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Hear every line of llama.cpp's log meanwhile."""
    start()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def last_words() -> str:
    """What llama.cpp last complained of, for an error message."""
    return "; ".join(line for line in list(_recent)[-3:] if line)


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """How a context is to be opened. `cells` is for all sequences; see `worker.protocol.Load` for `exact`."""

    cells: int
    sequences: int
    rows: int  # most rows of one step
    threads: int
    threads_least: int  # see `llamacpp.choice`
    kv_type: str
    unified: bool
    exact: bool
    pad_rows: bool = False  # see `llamacpp.choice.Padding`
    flash: str = "auto"  # auto | on | off; a quantized cache and `exact` need it
    steps: Mapping[str, float] = field(default_factory=dict)  # milliseconds by shape, as in `worker.protocol.Load`


def open_model(path: str, on_progress: Callable[[float], None]) -> Any:
    """The model's weights. Raises `ModelLoadFailed` with llama.cpp's reason; a hostile file may abort the process."""
    start()

    @llama_cpp.llama_progress_callback
    def progress(value: float, _data: ctypes.c_void_p) -> bool:
        on_progress(value)
        return True

    params = llama_cpp.llama_model_default_params()
    params.progress_callback = progress
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise ModelLoadFailed(f"llama.cpp cannot load {path}: {last_words() or 'no reason given'}")
    if reason := _unfit(model):
        llama_cpp.llama_model_free(model)
        raise ModelLoadFailed(f"{path} {reason}")
    return model


def _unfit(model: Any) -> str:
    """Why this model cannot be served, "" if it can. What keeps no memory is found out by `open_context`."""
    if llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model):
        return "is a recurrent model: it cannot go back to an earlier token, as is needed"
    if llama_cpp.llama_model_is_diffusion(model):
        return "is a diffusion model: it does not write one token after the other, as is needed"
    if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
        return "is a model with an encoder (T5 and others): only those that just go on with a text can be served"
    return ""


def slides(model: Any) -> bool:
    """Whether it attends through a sliding window. llama.cpp takes the cells that the window has left behind for empty,
    and leaves them out of a saved state: a sequence that was put back cannot go back to an earlier token."""
    return llama_cpp.llama_model_n_swa(model) > 0


def open_context(model: Any, plan: ContextPlan) -> Any:
    """A context for many sequences. Raises `ModelLoadFailed`, most often for lack of memory.

    A model that keeps no memory of what it has read, or whose file says how to make one vector of a text, is there to
    compare texts (BERT, Qwen3-Embedding): what it would write is nonsense.

    Where sequences share cells, llama.cpp gives those that a sliding window has left behind to whoever comes next
    (`llama_kv_cache::find_slot`), so that a conversation could not be gone back to; with streams nobody else comes.

    A single row is computed by one thread if `exact`: with more, ggml splits a long KV between them and adds up in
    another order than beside other sequences (`ggml_compute_forward_flash_attn_ext_f16`, ggml-cpu/ops.cpp).
    """
    if plan.unified and slides(model):
        raise ModelLoadFailed(
            "this model attends through a sliding window, so every slot needs KV cache of its own: "
            "take more --kv-tokens (--slots times --ctx), fewer --slots or a smaller --ctx"
        )
    params = llama_cpp.llama_context_default_params()
    spare = plan.pad_rows and plan.unified  # a sequence and cells for rows that only fill up a step
    params.n_ctx = plan.cells + (CELL_PADDING if spare else 0)
    params.n_seq_max = plan.sequences + spare
    params.n_batch = max(plan.rows, 64)
    params.n_ubatch = EXACT_UBATCH if plan.exact else UBATCH
    params.n_threads = 1 if plan.exact else plan.threads
    params.n_threads_batch = plan.threads
    params.type_k = params.type_v = KV_TYPES[plan.kv_type]
    params.flash_attn_type = FLASH["on" if plan.exact or plan.kv_type == "q8_0" else plan.flash]
    params.kv_unified = plan.unified
    params.no_perf = True
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadFailed(
            f"no room for a context of {plan.cells} tokens: {last_words() or 'no reason given'}; "
            "try a smaller --ctx, --slots or --kv-tokens"
        )
    pools = llama_cpp.llama_pooling_type(context) != llama_cpp.LLAMA_POOLING_TYPE_NONE
    if pools or not llama_cpp.llama_get_memory(context):
        llama_cpp.llama_free(context)
        raise ModelLoadFailed("this is an embedding model: it compares texts and writes none; take a chat model")
    return context


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`description` is llama.cpp's own line on the model, such as 'qwen3 0.6B Q8_0'; `n_ctx_train` is in tokens."""

    n_vocab: int
    n_ctx_train: int
    description: str


def facts(model: Any) -> ModelFacts:
    buffer = ctypes.create_string_buffer(256)
    llama_cpp.llama_model_desc(model, buffer, len(buffer))
    parameters = llama_cpp.llama_model_n_params(model)
    return ModelFacts(
        n_vocab=llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)),
        n_ctx_train=llama_cpp.llama_model_n_ctx_train(model),
        # llama.cpp names the sizes that it knows; a question mark is no help.
        description=buffer.value.decode("utf-8", "replace").replace("?B", f"{parameters / 1e6:.1f}M"),
    )
