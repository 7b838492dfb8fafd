"""Everything around the business: greetings, thanks, names, who are you, a human please."""

from recipe.talk import Talk


def greeting(talk: Talk) -> bool:
    if len(talk.messages) > 1:
        return False
    talk.ask_kind("greeting", wrap=False)
    talk.answer_kind("small talk", talk.either("greeting"), kind="greeting")
    return True


def thanks(talk: Talk) -> bool:
    talk.ask_kind("thanks", wrap=False)
    talk.answer_kind("small talk", talk.either("thanks"), kind="thanks")
    return True


def goodbye(talk: Talk) -> bool:
    talk.ask_kind("goodbye", wrap=False)
    talk.answer_kind("small talk", talk.either("goodbye"), kind="goodbye")
    return True


def how_are_you(talk: Talk) -> bool:
    talk.ask_kind("how_are_you", wrap=False)
    talk.answer_kind("small talk", "how_are_you", kind="how_are_you")
    return True


def who_are_you(talk: Talk) -> bool:
    talk.ask_kind("who_are_you", wrap=False)
    expected = (talk.world.shop,) if talk.world.shop else ()
    talk.answer_kind("small talk", talk.either("who_are_you"), expected, kind="who_are_you")
    return True


def human(talk: Talk) -> bool:
    """Hands over; names the phone or the e-mail address where the shop has one."""
    talk.ask_kind("human")
    facts = talk.world.facts
    if not talk.has_shop:
        talk.answer_kind("human", "plain_human", kind="plain_human")
    elif "phone" in facts:
        talk.answer_kind("human", "human_phone", (facts["phone"],), kind="human", V=facts["phone"])
    elif "email" in facts:
        talk.answer_kind("human", "human_email", (facts["email"],), kind="human", V=facts["email"])
    else:
        talk.answer_kind("human", "human", kind="human")
    return True


def give_name(talk: Talk) -> bool:
    if talk.name:
        return False
    name = talk.values.person()
    typed = name if talk.values.chance(0.7) else name.lower()
    talk.ask_kind("name_given", (typed,), wrap=False, N=typed)
    talk.name = name
    talk.answer_kind("memory", "name_given", (name,), N=name)
    return True


def recall_name(talk: Talk) -> bool:
    if not talk.name and talk.values.chance(0.6):
        return False
    talk.ask_kind("name_asked", wrap=False)
    if talk.name:
        talk.answer_kind("memory", "name_known", (talk.name,), N=talk.name)
    else:
        talk.answer_kind("memory", "name_missing", kind="missing")
    return True
