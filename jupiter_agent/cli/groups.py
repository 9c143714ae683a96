"""Groups of commands that guess what was meant, and commands that complete the options of their group."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from jupiter_agent.config import did_you_mean
from jupiter_agent.errors import UsageError


class Group(TyperGroup):
    """A word that is no command of it is a UsageError with a suggestion."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if not ctx.resilient_parsing and not word.startswith("-") and self.get_command(ctx, word) is None:
            raise UsageError(f"`{ctx.command_path}` has no command {word!r}", self._hint(ctx, word))
        return super().resolve_command(ctx, args)

    def _hint(self, ctx: Any, word: str) -> str:
        """The command of this name in another group, else the closest one here."""
        root = ctx.find_root()
        for name, group in root.command.commands.items():
            if isinstance(group, TyperGroup) and group.get_command(ctx, word) is not None:
                return f"did you mean `{root.info_name} {name} {word}`?"
        return did_you_mean(word, self.list_commands(ctx))


class Verb(TyperCommand):
    """A command after which the options of its group are taken, too: they are completed with its own."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        found: list[Any] = list(super().shell_complete(ctx, incomplete))
        if incomplete.startswith("-") and ctx.parent is not None:
            known = {item.value for item in found}
            shared = ctx.parent.command.shell_complete(ctx.parent, incomplete)
            found += [item for item in shared if item.value not in known]
        return found


def option_hint(error: Any, context: Any) -> str:
    """What was meant by an option nobody knows: one of the command's own, or of the groups it is in; '' for no idea."""
    word = str(getattr(error, "option_name", "") or "")
    known: set[str] = set()
    while context is not None and type(error).__name__ == "NoSuchOption":
        known |= {name for param in context.command.params for name in param.opts if name.startswith("--")}
        context = context.parent
    hint = did_you_mean(word, known) if known else ""
    return hint if hint.startswith("did you mean") else ""
