"""Runs Jinja templates of unknown origin: no access to Python, bounded time, bounded size of every value.

Jinja's immutable sandbox has no limit on time or memory, so each way to make something big is either absent here or
measured first: operators, concatenation, methods, filters, conversion to text and output. A trace function in the
calling thread ends what takes too long; between two of its calls runs only C code on values of bounded size.
The environment is the one that Hugging Face's `apply_chat_template` offers. Knows no message and no token.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import threading
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_CHARACTERS: Final = 4_000_000  # of any single text, the output included
MAX_SPENT: Final = 64_000_000  # characters of all texts made while one template runs
MAX_ITEMS: Final = 100_000  # of any list that a template builds; jinja's own limit for range() too
MAX_BITS: Final = 4_096  # of any integer
MAX_SOUGHT: Final = 1_000  # characters that are looked for where Python compares each with each place
MAX_SOURCE: Final = 1_000_000  # characters
_COMPILED: Final = "<template>"  # jinja's file name for code that it generates

_ESCAPED_MARK: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u(4d[c-f][0-9a-f]|e[0-9a-f]{3}|f[0-8][0-9a-f]{2})")
_STRING_METHODS: Final = (
    "strip lstrip rstrip split rsplit splitlines partition rpartition startswith endswith find rfind index rindex "
    "count upper lower title capitalize swapcase casefold isalnum isalpha isascii isdecimal isdigit islower "
    "isnumeric isspace istitle isupper removeprefix removesuffix replace join format"
)
_QUADRATIC: Final = frozenset(["rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip"])
_METHODS: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (
        str,
        frozenset(_STRING_METHODS.split()),
    ),
    (dict, frozenset(["get", "items", "keys", "values", "copy"])),
    (list, frozenset(["index", "count", "copy"])),
    (tuple, frozenset(["index", "count"])),
    (bytes, frozenset()),
    (int, frozenset()),
    (float, frozenset(["is_integer"])),
)
_FILTERS: Final = (
    "abs capitalize count d default dictsort e escape first float groupby int items last length list lower map max min "
    "reject rejectattr reverse safe select selectattr sort title trim truncate unique upper wordcount"
)


class TemplateRaised(Exception):
    """The template called `raise_exception`: it refuses what it was given."""


class Refused(Exception):
    """The template asked for more than the limits allow."""


class TooSlow(BaseException):
    """The deadline passed. Not an `Exception`, so that no filter can swallow it."""


class _Allowance(threading.local):
    left = 0  # characters that the template running in this thread may still make


_allowance = _Allowance()


@contextmanager
def limits(seconds: float, characters: int = MAX_SPENT) -> Iterator[None]:
    """Run templates in this thread: `TooSlow` once `seconds` of wall-clock time have passed inside the block, `Refused`
    once their texts add up to more than `characters`."""
    end = time.monotonic() + seconds

    def on_line(frame: FrameType, event: str, arg: object) -> Any:
        if time.monotonic() > end:
            raise TooSlow
        return on_line

    def on_call(frame: FrameType, event: str, arg: object) -> Any:
        if time.monotonic() > end:
            raise TooSlow
        return on_line if frame.f_code.co_filename == _COMPILED else None

    before, _allowance.left = sys.gettrace(), characters
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)


def measure(value: object, budget: int = MAX_CHARACTERS) -> None:
    """Raise `Refused` when writing out `value` would take more than about `budget` characters; shared parts count each
    time they are reached, as they would be written each time."""
    stack: list[object] = [value]
    while stack:
        item = stack.pop()
        budget -= len(item) if isinstance(item, str) else 4
        if isinstance(item, Mapping):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list | tuple | KeysView | ValuesView | ItemsView):
            stack.extend(item)
        elif isinstance(item, Namespace):
            stack.append(getattr(item, "_Namespace__attrs"))  # noqa: B009 - what its repr writes out
        if budget < 0 or len(stack) > MAX_CHARACTERS:
            raise Refused(f"a text of more than {MAX_CHARACTERS} characters")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment. `trim_blocks`, `lstrip_blocks`, `break`/`continue` and `{% generation %}` as at Hugging Face."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])  # interception also stops constant folding

    def __init__(self) -> None:
        self.join_values, self.measured = _join_values, _measured  # called by compiled templates
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            finalize=_written,
            optimized=False,
            cache_size=0,
        )
        self.code_generator_class = _Code
        self.concat = _concat
        self.filters = {name: FILTERS[name] for name in _FILTERS.split()}
        self.filters |= {"join": _join, "replace": _replace, "string": _string, "indent": _indent, "round": _round}
        self.filters |= {"tojson": _tojson, "trim": _trim}
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, "dict": _dict}

    def load(self, source: str, seconds: float = 5.0) -> jinja2.Template:
        """Compile. Raises `Refused`, `TooSlow` and what jinja2 raises for a broken template."""
        if len(source) > MAX_SOURCE:
            raise Refused(f"a template of more than {MAX_SOURCE} characters")
        with limits(seconds):
            return self.from_string(source)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if (formatted := super().wrap_str_format(value)) is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            _check_format(value.__self__, (args, kwargs))
            return formatted(*args, **kwargs)

        return checked

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, allowed in _METHODS:
            if isinstance(obj, kind):
                return attr in allowed
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _CHECKS[operator](left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(__obj, Macro):
            measure((args, kwargs))
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            _check_replace(owner, *args[:2])
        elif isinstance(owner, str) and name == "join":
            args = (_joinable(owner, *args),)
        elif isinstance(owner, str) and name in _QUADRATIC:
            _check_sought(*args, *kwargs.values())
        return super().call(__context, __obj, *args, **kwargs)


class _Code(CodeGenerator):
    """Measures what expressions build. Lists that hold a shared list twice double with every step, and then freeze
    whatever compares, hashes or writes them; texts add up in buffers and in the frames of a recursion."""

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._measured(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._measured(super().visit_Dict, node, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:
        self._measured(super().visit_Filter, node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        self._measured(partial(super().visit_Call, forward_caller=forward_caller), node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._measured(super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._measured(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """`a ~ b`, through the environment's measured concatenation."""
        self.write("environment.join_values((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def _measured(self, write: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        self.write("environment.measured(")
        write(node, frame)
        self.write(")")


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant said, for training; it renders its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


# --- what may grow, measured before it does --------------------------------------------------------------------------


def _concat(parts: Iterable[str]) -> str:
    total, kept = 0, []
    for part in parts:
        total += len(part)
        if total > MAX_CHARACTERS:
            raise Refused(f"an output of more than {MAX_CHARACTERS} characters")
        kept.append(part)
    return "".join(kept)


def _join_values(values: tuple[object, ...]) -> str:
    measure(values)
    return str_join(values)


def _written(value: Any) -> Any:
    if not isinstance(value, str):
        measure(value)
    return _measured(value)


def _measured(value: Any) -> Any:
    if isinstance(value, str):
        _fits(len(value), MAX_CHARACTERS)
    elif isinstance(value, dict | list | tuple):
        measure(value)
    return value


def _fits(count: int, limit: int) -> None:
    if count > limit:
        raise Refused(f"a value of {count} parts (at most {limit})")
    _allowance.left -= count
    if _allowance.left < 0:
        raise Refused("more text than a prompt can need")


def _check_add(left: Any, right: Any) -> None:
    if isinstance(left, str) and isinstance(right, str):
        _fits(len(left) + len(right), MAX_CHARACTERS)
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        measure((left, right))
        _fits(len(left) + len(right), MAX_ITEMS)
    else:
        _check_number(left, right)


def _check_multiply(left: Any, right: Any) -> None:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str) and isinstance(times, int):
            _fits(len(text) * times, MAX_CHARACTERS)
        if isinstance(text, list | tuple):
            raise Refused("a list times a number")
    if isinstance(left, int) and isinstance(right, int):
        _fits(left.bit_length() + right.bit_length(), MAX_BITS)


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _fits(left.bit_length() * abs(right), MAX_BITS)


def _check_modulo(left: Any, right: Any) -> None:
    if isinstance(left, str):
        _check_format(left, right)
    else:
        _check_number(left, right)


def _check_number(left: Any, right: Any) -> None:
    for value in (left, right):
        if isinstance(value, int):
            _fits(value.bit_length(), MAX_BITS)


def _check_format(text: str, values: object) -> None:
    """Of `str.format` and `%`: no wide fields, no computed widths, no big values."""
    if re.search(r"\d{4}|\*|\{[^{}]*\{", text.replace("{{", "")):
        raise Refused("a format with a wide or computed field")
    measure(values)
    _fits(len(text) * 16, MAX_CHARACTERS)


def _check_sought(*sought: object) -> None:
    """No trace function gets in between while Python looks for these."""
    if any(isinstance(text, str) and len(text) > MAX_SOUGHT for text in sought):
        raise Refused(f"to look for more than {MAX_SOUGHT} characters from behind, or to strip them")


def _check_replace(text: str, old: object = "", new: object = "", *_: object) -> None:
    if isinstance(old, str) and isinstance(new, str) and len(new) > len(old):
        _fits(len(text) + text.count(old) * (len(new) - len(old)), MAX_CHARACTERS)


def _joinable(separator: str, values: Iterable[object] = (), *_: object) -> list[object]:
    items = list(islice(values, MAX_CHARACTERS))
    measure(items)
    _fits(len(separator) * len(items), MAX_CHARACTERS)
    return items


_CHECKS: Final[dict[str, Callable[[Any, Any], None]]] = {
    "+": _check_add,
    "-": _check_number,
    "*": _check_multiply,
    "/": _check_number,
    "//": _check_number,
    "%": _check_modulo,
    "**": _check_power,
}


# --- filters and functions -------------------------------------------------------------------------------------------


@jinja2.pass_context
def _join(context: Context, value: Iterable[object], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = FILTERS["map"](context, value, attribute=attribute)
    return str(d).join(str(item) for item in _joinable(str(d), value))


def _replace(value: object, old: str, new: str, count: int = -1) -> str:
    text = _string(value)
    _check_replace(text, str(old), str(new))
    return text.replace(str(old), str(new), count)


def _string(value: object) -> str:
    measure(value)
    return str(value)


def _trim(value: object, chars: str | None = None) -> str:
    _check_sought(chars)
    return _string(value).strip(chars)


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _fits((len(width) if isinstance(width, str) else width) * (value.count("\n") + 1) + len(value), MAX_CHARACTERS)
    return FILTERS["indent"](value, width, first, blank)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    _fits(abs(precision), 32)
    return FILTERS["round"](value, precision, method)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Hugging Face's `tojson`, which unlike jinja's own escapes nothing for HTML."""
    measure(value)
    _fits(len(indent) if isinstance(indent, str) else indent or 0, 32)
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    # The marks of `guard` stay what they are.
    return _ESCAPED_MARK.sub(lambda found: found[1] + chr(int(found[2], 16)), text) if ensure_ascii else text


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return _measured(dict(*args, **kwargs))


def _raise_exception(message: object = "") -> NoReturn:
    raise TemplateRaised(str(message)[:1000])


def _strftime_now(format: str) -> str:
    return datetime.datetime.now().strftime(format[:100])
