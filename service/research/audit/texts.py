"""Names from outside, as they can be shown anywhere: in a page, a table, XML, at a terminal."""

from __future__ import annotations

__all__ = ("in_markdown", "shown")

# All that Markdown may read as its own. A backslash before any of them is CommonMark's way to say it is not meant.
_MARKED = frozenset("\\`*_{}[]()<>#+-.!|~&:@/^$=\"'")


def shown(text: str) -> str:
    """What does not print stands as Python escapes it: control characters, what turns the writing's direction, bytes of
    a file's name that are no UTF-8.

    >>> shown("cat\\x00\\u202egpj")
    'cat\\\\x00\\\\u202egpj'
    """
    # isprintable() is false of Cc, Cf, Cs, Co, Cn and of every separator but the space.
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def in_markdown(text: str) -> str:
    """A name in a line or a cell of Markdown, where it is nothing but text."""
    return "".join(f"\\{each}" if each in _MARKED else each for each in shown(text))


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else repr(character)[1:-1]
