"""Everything around the business: greetings, thanks, moods, who are you, a human please."""

from recipe.sources import Origin
from recipe.talk import Talk


def greeting(talk: Talk) -> bool:
    if any(message["role"] != "system" for message in talk.messages):
        return False
    talk.ask_kind("greeting", wrap=False)
    talk.answer_kind("small talk", talk.either("greeting"), kind="greeting")
    return True


def simple(kind: str, note: str | None = None, *, once: bool = False):
    """A skill of one fixed question kind and one reply kind of the same name."""

    def skill(talk: Talk) -> bool:
        if once and note in talk.notes:
            return False
        talk.ask_kind(kind, wrap=False)
        talk.answer_kind("small talk", talk.either(kind), kind=kind)
        if note:
            talk.note(note)
        return True

    skill.__name__ = kind
    return skill


thanks = simple("thanks")
goodbye = simple("goodbye")
how_are_you = simple("how_are_you")
acknowledge = simple("acknowledge")
compliment = simple("compliment")
nonsense = simple("nonsense")
complaint = simple("complaint", "The customer complained.", once=True)


def who_are_you(talk: Talk) -> bool:
    talk.ask_kind("who_are_you", wrap=False)
    expected = (talk.world.shop,) if talk.world.shop else ()
    talk.answer_kind("small talk", talk.either("who_are_you"), expected, kind="who_are_you")
    return True


def with_contact(talk: Talk, fact: str) -> None:
    """Hands over and names one of the shop's own contacts."""
    value = talk.world.facts[fact]
    origins = (Origin("Of course", None), Origin(value, ("fact", fact)))
    talk.answer_kind("human", f"human_{fact}", (value,), kind="human", origins=origins, V=value)


def human(talk: Talk) -> bool:
    """Hands over; names the phone or the e-mail address where the shop has one."""
    talk.ask_kind("human")
    facts = talk.world.facts
    talk.note("The customer asked for a human agent.")
    if not talk.has_shop:
        talk.answer_kind("human", "plain_human", kind="plain_human")
    elif "phone" in facts:
        with_contact(talk, "phone")
    elif "email" in facts:
        with_contact(talk, "email")
    else:
        talk.answer_kind("human", "human", kind="human")
    return True
