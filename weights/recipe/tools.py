"""Tool calls: choosing a tool from the prompt, filling its parameters, asking for what is missing, using the result.

Tools are written into the system prompt the way the shipped chat template writes them (`prompt_block`), so that a
server that is given `tools` and one that is given the finished prompt see the same tokens.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from recipe.phrases import expand
from recipe.sources import Origin, Span
from recipe.talk import Talk
from recipe.values import SLOT, Values
from recipe.words import Split, load

HEAD = '# Tools\nTo use one, write <tool_call>{"name": ..., "arguments": {...}}</tool_call>'
INVENTED_SHARE = 0.45  # of the tools in training
RENAMED_SHARE = 0.4  # of the others in training get a name that is not theirs
MISSING_SHARE = 0.3  # of the requests leave out the first argument
ALIKE_SHARE = 0.25  # of training's lists: many names begin with one word, so that only their ends tell them apart
AHEAD_SHARE = 0.35  # of the invented ones are asked for with the first argument in front of the wish
AHEAD = (
    "{0}: {1}", "for {0} {1}", "it's {0}. {1}", "there's {0} here, {1}", "my {0}, {1}", "{0} it is, {1}",
    "with {0}, {1}", "{0} came up, {1}", "you know the {0}? {1}",
)  # fmt: skip
INVENTED_SLOTS = (
    "order_number", "email", "city", "product", "date", "code", "phone", "person", "address", "country", "size",
    "quantity", "price", "time",
)  # fmt: skip
RESULTS = ("price", "date", "code", "person", "time")
VERBS = (
    "get", "check", "set", "create", "book", "find", "start", "cancel", "update", "send", "list", "request", "add",
    "edit", "change", "lookup", "fetch", "make", "open", "close", "new", "do", "show", "give", "put", "move", "order",
    "ask", "report", "plan", "arrange", "query", "search", "submit", "verify", "handle", "run", "save", "stop", "use",
)  # fmt: skip
NUMBERS = ("quantity", "rating", "number")  # slots whose values are JSON numbers


@dataclass(frozen=True)
class Tool:
    """One tool as this conversation sees it: `data` is its entry of `data/tools.toml` or an invented one of that form,
    `parameters` maps the labels of its parameters to the names they have here."""

    data: dict[str, Any]
    name: str
    description: str
    parameters: dict[str, str]

    @property
    def line(self) -> str:
        return f"- {self.name}({', '.join(self.parameters.values())}): {self.description}"

    @property
    def schema(self) -> dict[str, Any]:
        """As OpenAI's API wants it."""
        properties = {name: {"type": "string"} for name in self.parameters.values()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def prompt_block(tools: list[Tool]) -> str:
    """What the chat template appends to the system message."""
    return "\n".join([HEAD, *(tool.line for tool in tools)])


def labels(split: Split) -> list[str]:
    return [label for label, tool in load("tools").items() if tool["split"] == split]


def draw_tools(values: Values, count: int) -> list[Tool]:
    tools: list[Tool] = []
    entries = [load("tools")[label] for label in values.rng.sample(labels(values.split), count)]
    training = values.split == "train"
    first = a_word(values) if training and values.chance(ALIKE_SHARE) else ""
    for entry in entries:
        invented = training and values.chance(INVENTED_SHARE)
        tool = of_entry(values, invent(values) if invented else entry)
        if first and values.chance(0.7):
            tool = replace(tool, name=renamed(tool.name, first))
        elif training and not invented and values.chance(RENAMED_SHARE):
            tool = replace(tool, name=renamed(tool.name, a_word(values)))
        if tool.name not in {other.name for other in tools}:
            tools.append(tool)
    return tools


def a_word(values: Values) -> str:
    """Any word to begin a tool's name with."""
    return values.rng.choice((values.rng.choice(VERBS), values.any_word(), values.any_word(), values.pseudo_word(1)))


def renamed(name: str, first: str) -> str:
    """The name with another first word."""
    _, joint, rest = name.partition("_")
    return f"{first}_{rest if joint else name}"


def of_entry(values: Values, data: dict[str, Any]) -> Tool:
    parameters = {key: values.rng.choice(item["names"]) for key, item in data["parameters"].items()}
    if len(set(parameters.values())) < len(parameters):
        parameters = {key: item["names"][0] for key, item in data["parameters"].items()}
    return Tool(data, values.rng.choice(data["names"]), values.rng.choice(data["descriptions"]), parameters)


def invent(values: Values) -> dict[str, Any]:
    """A tool that no shop has, asked for in the words of its description: only reading the list can find it."""
    rng, makers = values.rng, (values.topic, values.topic, values.pseudo_word, values.any_word, values.any_word)
    topic = " ".join(rng.choice(makers)() for _ in range(rng.choice((1, 1, 2))))
    word = topic.replace(" ", "_").replace("-", "_").lower() if values.chance(0.5) else values.pseudo_word()
    slots = rng.sample(INVENTED_SLOTS, rng.choice((0, 1, 1, 1, 2)))
    parameters = {slot: {"slot": slot, "names": [slot, slot, values.pseudo_word(), f"new_{slot}"]} for slot in slots}
    said = [f"{rng.choice((' ', ', ', ' for ', ': '))}{{{slot}}}" for slot in slots]
    wishes = (
        "i need {0}", "can you do {0} for me", "{0}", "please arrange {0}", "i'd like {0}", "help me with {0}",
        "could i get {0}", "it's about {0}", "what about {0}", "take care of {0} please", "i came for {0}",
        "my husband wants {0}", "is {0} possible today", "we talked about {0} on the phone, now do it",
    )  # fmt: skip
    requests = [wish.format(topic) + "".join(said) for wish in wishes]
    if slots and values.chance(AHEAD_SHARE):
        first, rest = f"{{{slots[0]}}}", "".join(said[1:])
        requests = [rng.choice(AHEAD).format(first, wish.format(topic)) + rest for wish in wishes]
    return {
        "names": [f"{rng.choice(VERBS)}_{word}", f"{values.any_word()}_{word}", f"{word}_{values.any_word()}", word],
        "descriptions": [f"Use this for {topic}.", f"Takes care of {topic}.", f"Everything about {topic}."],
        "parameters": parameters,
        "requests": requests,
        "missing": [wish.format(topic) + "".join(said[1:]) for wish in wishes],
        "result": {key: "{" + key + "}" for key in rng.sample(RESULTS, rng.randint(1, 2))},
    }


def draw_arguments(values: Values, tool: Tool) -> dict[str, str]:
    """Different values for the parameters of a tool, by label."""
    arguments: dict[str, str] = {}
    for key, item in tool.data["parameters"].items():
        value = values.fill("{" + item["slot"] + "}")
        while value in arguments.values():
            value = values.fill("{" + item["slot"] + "}")
        arguments[key] = value
    return arguments


def arguments_json(tool: Tool, arguments: dict[str, str]) -> str:
    def typed(key: str, value: str) -> str | int:
        return int(value) if tool.data["parameters"][key]["slot"].split(":")[0] in NUMBERS else value

    return json.dumps({tool.parameters[key]: typed(key, value) for key, value in arguments.items()}, ensure_ascii=False)


def call_text(name: str, arguments: str) -> str:
    """A tool call as the model writes it and as the chat template writes an earlier one."""
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def call_origins(tool: Tool, arguments: dict[str, str]) -> tuple[Origin, ...]:
    """The name and the parameters' names stand in the tool's line, the arguments in what the customer said."""
    origins = [Origin(tool.name, ("tool", tool.name))]
    for key, value in arguments.items():
        origins += [Origin(tool.parameters[key], ("tool", tool.name)), Origin(value, ("argument", value))]
    return tuple(origins)


def call_and_tell(talk: Talk, tool: Tool, arguments: dict[str, str]) -> None:
    """The call, the tool's result, and the answer made from it: in words of the result's own, so that it serves tools
    that training never saw."""
    called = arguments_json(tool, arguments)
    text = call_text(tool.name, called)
    talk.answer("tool call", text, exact=text, origins=call_origins(tool, arguments))
    talk.messages[-1] |= {"call": {"name": tool.name, "arguments": called}}
    rng, result = talk.rng, {}
    for key, template in tool.data["result"].items():
        result[key] = expand(rng, talk.values.fill(template))
    talk.messages.append({"role": "tool", "content": json.dumps(result, ensure_ascii=False)})
    told = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in result.items())
    talk.places[("result", "")] = Span(len(talk.messages) - 1, 0, len(talk.messages[-1]["content"]))
    origins = tuple(Origin(value, ("result", "")) for value in result.values())
    talk.answer("tool result", talk.worded("tool_result", V=told), tuple(result.values()), origins=origins)
    wish = tool.name.replace("_", " ")
    talk.note(f"The customer wanted to {wish} ({told})." if result else f"The customer wanted to {wish}.")


def use_tool(talk: Talk, tools: list[Tool]) -> bool:
    """The customer wants what one of the tools does; the first parameter may have to be asked for."""
    rng, tool = talk.rng, talk.rng.choice(tools)
    data = tool.data
    arguments = draw_arguments(talk.values, tool)
    first = next(iter(arguments), None)
    if first and data.get("missing") and talk.values.chance(MISSING_SHARE):
        others = {key: value for key, value in arguments.items() if key != first}
        request(talk, expand(rng, pick(talk, data["missing"]), **others), others)
        text = talk.worded("tool_ask", K=tool.parameters[first].replace("_", " "))
        wanted = tool.parameters[first]
        origins = (Origin(wanted.replace("_", " "), ("tool", tool.name), wanted),)
        talk.answer("asks the number", text, exact=text, origins=origins)
        given = talk.values.rng.choice(("{I}", "{I}", "it's {I}", "it is {I}", "{I} i think", "sure, {I}", "here: {I}"))
        request(talk, expand(rng, given, I=arguments[first]), {first: arguments[first]}, wrap=False)
    else:
        text = expand(rng, pick(talk, data["requests"]), **arguments)
        if SLOT.search(text):
            return False
        request(talk, text, arguments)
    call_and_tell(talk, tool, arguments)
    return True


def request(talk: Talk, text: str, arguments: dict[str, str], wrap: bool = True) -> None:
    """The customer says this, arguments of a call in it."""
    talk.ask(text, tuple(arguments.values()), wrap)
    for value in arguments.values():
        talk.place(("argument", value), value)


def pick(talk: Talk, templates: list[str]) -> str:
    """One request in five belongs to the held-out split, whatever the tool's own."""
    parts = {"held_out": templates[::5], "train": [t for i, t in enumerate(templates) if i % 5]}
    return talk.rng.choice(parts[talk.split] or templates)
