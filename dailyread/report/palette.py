"""The page's colours by role, light and dark: as CSS variables, and as marks that plots carry until they are inlined."""

from __future__ import annotations

from collections.abc import Iterator

# role: (light, dark)
PALETTE = {
    "page": ("#f4f6f8", "#12161c"),
    "card": ("#ffffff", "#1a2029"),
    "ink": ("#1b2430", "#e6eaf0"),
    "muted": ("#566273", "#9eabba"),
    "line": ("#d5dbe3", "#333d4a"),
    "link": ("#1d5fae", "#82b4f5"),
    "good": ("#1f6b4c", "#7fd3ae"),
    "bad": ("#b3261e", "#ff9d94"),
    "by_11-bar": ("#55a583", "#438f70"),
    "by_11-bg": ("#dcefe6", "#1a3a2e"),
    "by_11-fg": ("#1f6b4c", "#86d6b2"),
    "late-bar": ("#2f9ac4", "#4ab0d8"),
    "late-bg": ("#b9e0f0", "#14506a"),
    "late-fg": ("#0b4259", "#bfe8fa"),
    "assumed-bar": ("#e8961b", "#eba33c"),
    "assumed-soft": ("#fbe3bd", "#5c421c"),
    "assumed-bg": ("#f7b955", "#eba33c"),
    "assumed-fg": ("#3a2400", "#241600"),
    "deemed-bar": ("#c9aa1a", "#dcc23f"),
    "deemed-soft": ("#f7efc4", "#554a17"),
    "deemed-bg": ("#f0dd74", "#dcc23f"),
    "deemed-fg": ("#453800", "#2a2200"),
    "restored-bar": ("#2f63b8", "#6f9fee"),
    "restored-bg": ("#2f63b8", "#6f9fee"),
    "restored-fg": ("#ffffff", "#06122a"),
    "apportioned-bar": ("#7a4fb3", "#b394e8"),
    "apportioned-bg": ("#7a4fb3", "#b394e8"),
    "apportioned-fg": ("#ffffff", "#170a2c"),
    "revised-bar": ("#a8325e", "#e87fa6"),
    "revised-bg": ("#a8325e", "#e87fa6"),
    "revised-fg": ("#ffffff", "#2d0614"),
    "provisional-bar": ("#9aa5b3", "#6c7887"),
    "provisional-bg": ("#e4e8ed", "#2b343f"),
    "provisional-fg": ("#4f5b6b", "#aab6c4"),
}
_MARKS = {role: f"#0102{n:02x}" for n, role in enumerate(PALETTE)}


def mark(role: str) -> str:
    """A colour that stands for the role while a plot is drawn, and that `to_variables` finds again."""
    return _MARKS[role]


def to_variables(svg: str) -> str:
    """The drawing with every mark turned into its CSS variable, so that it follows the reader's colour scheme."""
    for role, colour in _MARKS.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg


def css() -> str:
    """The variables: light, dark where the reader prefers it, and light on paper."""
    light, dark = (";".join(_declarations(n)) for n in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _declarations(scheme: int) -> Iterator[str]:
    for role, colours in PALETTE.items():
        yield f"--{role}:{colours[scheme]}"
