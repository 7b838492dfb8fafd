"""One turn of a conversation at a time: the next one goes on from what this one will have said. Knows ids only."""

from __future__ import annotations

from frontdesk.errors import Conflict


class Talking:
    """Which conversations are being answered. Must be used from one event loop; `None` is no conversation."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()

    def take(self, owner: str, conversation: str | None) -> None:
        """Raises `Conflict` while another turn has it."""
        if (owner, conversation) in self._taken:
            raise Conflict(
                f"a turn of conversation '{conversation}' is being answered: wait for its end or cancel it",
                param="conversation",
                code="conversation_locked",
            )
        self.resume(owner, conversation)

    def resume(self, owner: str, conversation: str | None) -> None:
        """The same for a turn that a former life of the server began."""
        if conversation is not None:
            self._taken.add((owner, conversation))

    def give_back(self, owner: str, conversation: str | None) -> None:
        if conversation is not None:
            self._taken.discard((owner, conversation))
